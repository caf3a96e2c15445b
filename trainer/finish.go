package trainer

import (
	"context"
	"fmt"
	"strings"
	"unicode"

	"jambalaya/data/source"
	"jambalaya/trainer/report"
)

// finish waits for the last checkpoint and leaves what a person looks at: the
// plot, samples, and a summary of where everything is.
func (r *run) finish(ctx context.Context) error {
	if !r.team.leads() {
		return nil
	}
	if err := r.store.Wait(); err != nil {
		return fmt.Errorf("last checkpoint: %w", err)
	}
	lines, err := report.ReadMetrics(r.dir.file(metricsFile))
	if err != nil {
		return err
	}
	text := r.eval.text()
	baselines, err := report.Compress(ctx, text)
	if err != nil {
		return err
	}
	if err := report.PlotLoss(r.dir.file(plotFile), report.Plot{Title: r.opt.Name, Lines: lines, Baselines: baselines}); err != nil {
		return err
	}
	samples, err := sampleSet(r.device, r.weights, r.corpus.Tokenizer(), r.cfg.Trainer)
	if err != nil {
		return err
	}
	if err := writeFile(r.dir.file(samplesFile), joinSamples(samples)); err != nil {
		return err
	}
	r.summary(lines, baselines, len(text), samples)
	return nil
}

// summary says how the run ended, where everything is and what to try next.
func (r *run) summary(lines []report.Line, baselines []report.Compressed, textBytes int, samples []string) {
	first, last := validations(lines)
	r.printf("\n%d steps, %s. On %d bytes of held-out text:", r.done, plural(r.tokens, "token"), textBytes)
	if first.BitsPerByte > 0 { // unless the metrics were lost
		r.printf("  this model      %.3f bits a byte (%.3f nats a token); %.3f at the start, ratio %.2f",
			last.BitsPerByte, last.ValLoss, first.BitsPerByte, last.BitsPerByte/first.BitsPerByte)
	}
	for _, b := range baselines {
		r.printf("  %-15s %.3f bits a byte", b.Label, b.BitsPerByte)
	}
	if s := r.learner.state; s.NonFinite+s.Spikes > 0 {
		r.printf("  %d steps were skipped: %d not finite, %d spikes", s.NonFinite+s.Spikes, s.NonFinite, s.Spikes)
	}
	if len(samples) > 0 {
		r.printf("\nA sample:\n\n%s", indent(samples[0]))
		if r.writesGo() {
			r.printf("Go's scanner reads %d of %d samples without an error.", scansAsGo(samples), len(samples))
		}
	}
	r.printf("\nIn %s: %s, %s, %s, %s and %s.", r.dir.path, metricsFile, plotFile, samplesFile, configFile, checkpointDir+"/")
	r.printf("Next:\n"+
		"  go run ./cmd/generate --run %[1]s --prompt \"func main() {\"\n"+
		"  go run ./cmd/ckpt ls --run %[1]s\n"+
		"  go run ./cmd/train --config nano --set trainer.minutes=30 --out runs/longer", r.dir.path)
}

// writesGo says whether the model learnt from Go alone.
func (r *run) writesGo() bool {
	for _, s := range r.cfg.Data.Sources {
		if s.Path != source.GoSource && s.Ext != ".go" {
			return false
		}
	}
	return true
}

// validations returns the first and the last validation of a run.
func validations(lines []report.Line) (first, last report.Validation) {
	seen := false
	for _, l := range lines {
		if l.Validation == nil {
			continue
		}
		if !seen {
			first, seen = *l.Validation, true
		}
		last = *l.Validation
	}
	return first, last
}

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// indent prepares text of a model for a terminal, which it is not to control.
func indent(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return unicode.ReplacementChar
		}
		return r
	}, strings.TrimRight(text, "\n"))
	return "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"
}
