package experiments

import (
	"fmt"
	"io"
	"time"

	"jambalaya/data/recall"
	"jambalaya/internal/human"
	"jambalaya/trainer"
)

// DryRun prints what a grid is and about how long it takes. It trains a few steps
// of each variant on random tokens, and writes nothing.
func DryRun(g *Grid, opt Options) error {
	if err := g.place(&opt); err != nil {
		return err
	}
	total := 0.0
	reference := g.Reference()
	w := opt.Stdout
	fmt.Fprintf(w, "%s: %d cells, %d side by side with %d %s each\n\n", g.Spec.Title, len(g.Cells), opt.Jobs, opt.Threads, plural(opt.Threads, "thread", "threads"))
	fmt.Fprintf(w, "%-22s %9s %9s %8s %12s %8s %6s %9s %10s\n", "variant", "attention", "params", "active", "FLOPs/token", "ffn", "match", "memory", "time/cell")
	for _, a := range g.Arms {
		cfg := a.Config
		cfg.Trainer.Device, cfg.Trainer.Threads = g.Cells[0].Config.Trainer.Device, opt.Threads
		step, err := rehearse(cfg)
		if err != nil {
			return fmt.Errorf("variant %s: %w", a.Name, err)
		}
		seconds := g.cellSeconds(cfg, step.seconds)
		total += seconds * float64(len(g.Spec.Seeds))
		match := fmt.Sprintf("%+.2f%%", 100*a.Match)
		if a == reference || g.Spec.Match.By == MatchNone {
			match = "-"
		}
		fmt.Fprintf(w, "%-22s %9s %9s %8s %12s %8d %6s %9s %10s\n", a.Name, fmt.Sprintf("%d/%d", a.Cost.AttentionLayers, a.Cost.Layers),
			human.Count(float64(a.Cost.Parameters)), human.Count(float64(a.Cost.Active)), human.Count(a.Cost.FLOPs.Forward()),
			cfg.Model.IntermediateSize, match, human.Bytes(step.planned), human.Duration(time.Duration(seconds*float64(time.Second))))
	}
	printCells(w, g)
	wall := time.Duration(total / float64(opt.Jobs) * float64(time.Second))
	fmt.Fprintf(w, "\nabout %s in all\n", human.Duration(wall))
	return nil
}

// cellSeconds is about how long a cell takes whose training step takes so long: its
// steps, what it reads without learning (validations and problems, at a third of the
// price), and a little for checkpoints.
func (g *Grid) cellSeconds(cfg trainer.Config, step float64) float64 {
	const others, reading = 1.05, 1.0 / 3
	t := cfg.Trainer
	validations := 2 + (t.Steps-1)/t.EvalEvery // before the first step and after the last too
	read := validations * t.EvalTokens
	if r := g.Spec.Recall; r.Share > 0 {
		for _, length := range r.EvalLengths {
			read += length * r.Problems * len(recall.Tasks())
		}
	}
	return others * step * (float64(t.Steps) + reading*float64(read)/float64(tokensPerStep(cfg)))
}

func printCells(w io.Writer, g *Grid) {
	fmt.Fprintf(w, "\ncells, %d steps of %d tokens each:\n", g.Cells[0].Config.Trainer.Steps, tokensPerStep(g.Cells[0].Config))
	for _, c := range g.Cells {
		fmt.Fprintf(w, "  %s\n", c.Name)
	}
}

func tokensPerStep(cfg trainer.Config) int {
	return cfg.Trainer.BatchSize * cfg.Trainer.Accumulation * cfg.Data.SequenceLength
}
