package trainer

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"jambalaya/data/source"
	"jambalaya/internal/human"
	"jambalaya/trainer/report"
)

// finish waits for the last checkpoint and leaves what a person looks at: the
// plot, samples, and a summary of where everything is.
func (r *run) finish(ctx context.Context) error {
	if err := r.store.Wait(); err != nil {
		return fmt.Errorf("last checkpoint: %w", err)
	}
	samples, err := r.sample(ctx)
	if err != nil || !r.team.leads() {
		return err
	}
	if err := writeFile(r.dir.file(samplesFile), joinSamples(samples)); err != nil {
		return err
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
	if err := report.PlotLoss(r.dir.file(plotFile), report.Plot{Title: r.title(), Lines: lines, Baselines: baselines}); err != nil {
		return err
	}
	r.summary(lines, baselines, len(text), samples)
	return nil
}

// title is that of the plot.
func (r *run) title() string {
	return fmt.Sprintf("%s: %s parameters, %s tokens", r.opt.Name, human.Count(float64(r.cfg.Model.Counts().Total)), human.Count(float64(r.tokens)))
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
	next := []string{
		"generate --run %s --prompt " + strconv.Quote(r.prompt()),
		"ckpt ls --run %s",
		"ckpt export --run %s --out " + filepath.Join("hub", filepath.Base(r.dir.path)),
	}
	if r.opt.Name == "nano" {
		next = append(next, "train --set trainer.minutes=30 --out runs/longer")
	}
	r.printf("Next:")
	for _, command := range next {
		r.printf("%s", "  go run ./cmd/"+strings.ReplaceAll(command, "%s", r.dir.path))
	}
}

// prompt is one to try the model with: the last line of the first of the configuration.
func (r *run) prompt() string {
	if len(r.cfg.Trainer.SamplePrompts) == 0 {
		return "func main() {"
	}
	text := strings.TrimSpace(r.cfg.Trainer.SamplePrompts[0])
	return text[strings.LastIndexByte(text, '\n')+1:]
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
