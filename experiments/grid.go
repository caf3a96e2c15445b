package experiments

import (
	"errors"
	"fmt"

	"jambalaya/configs"
	"jambalaya/internal/config"
	"jambalaya/model"
	"jambalaya/trainer"
)

// Grid is a Spec with every configuration resolved.
type Grid struct {
	Spec  Spec
	Arms  []*Arm
	Cells []*Cell // seed by seed, so that a grid that is not done has whole blocks
}

// Arm is a variant, resolved: the same but for the seed in all its cells.
type Arm struct {
	Name   string
	Config trainer.Config
	Cost   Cost
	// Match is how far what was matched is from the reference's, relative to it.
	Match float64
	// Hub says why the hub's format cannot hold this variant; nil if it can.
	Hub error
}

// Cell is one run of the grid.
type Cell struct {
	Name   string // of its directory below cells/
	Arm    *Arm
	Seed   uint64
	Config trainer.Config
	Hash   string // of what decides its result
}

// NewGrid resolves every cell, and refuses the whole grid if one is at fault. No
// file but the base configuration is read.
func NewGrid(spec Spec) (*Grid, error) {
	file, err := configs.Load(spec.Base)
	if err != nil {
		return nil, err
	}
	g := &Grid{Spec: spec}
	if err := g.resolveAll(file); err != nil {
		return nil, err
	}
	var faults []error
	reference := g.Reference()
	for _, a := range g.Arms {
		faults = append(faults, a.comparable(reference), a.match(spec.Match, reference))
		a.Cost = costOf(a.Config, spec.Contexts)
		_, a.Hub = model.WriteHFConfig(a.Config.Model, "float32")
	}
	faults = append(faults, spec.Recall.fits(reference.Config))
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	for _, seed := range spec.Seeds {
		for _, a := range g.Arms {
			cfg := a.Config
			cfg.Trainer.Seed = seed
			hash, err := identity(cfg, spec.Recall)
			if err != nil {
				return nil, err
			}
			g.Cells = append(g.Cells, &Cell{Name: fmt.Sprintf("%s-seed%d", directoryName(a.Name), seed), Arm: a, Seed: seed, Config: cfg, Hash: hash})
		}
	}
	return g, nil
}

// resolveAll resolves the variants. A fault that all of them have is one of the grid,
// and said once.
func (g *Grid) resolveAll(file config.File) error {
	var faults []error
	said := map[string]int{}
	for _, v := range g.Spec.Variants {
		cfg, err := resolve(file, g.Spec.Set, v.Set)
		if err == nil {
			g.Arms = append(g.Arms, &Arm{Name: v.Name, Config: cfg})
			continue
		}
		if said[err.Error()]++; said[err.Error()] == len(g.Spec.Variants) {
			return fmt.Errorf("every variant: %w", err)
		}
		faults = append(faults, fmt.Errorf("variant %s: %w", v.Name, err))
	}
	return errors.Join(faults...)
}

// resolve is the configuration of a variant.
func resolve(file config.File, shared, own []string) (trainer.Config, error) {
	cfg, origins, err := trainer.LoadConfig(file, append(append([]string(nil), shared...), own...))
	if err != nil {
		return cfg, err
	}
	if cfg.Trainer.Steps == 0 || cfg.Trainer.Minutes > 0 {
		return cfg, fmt.Errorf("%w: trainer.minutes: %s sets a time, in which variants would take different numbers of steps; set trainer.steps, and trainer.minutes to 0",
			ErrGrid, origins.Of("trainer.minutes"))
	}
	return cfg, nil
}

// Reference is the arm that the others are compared with.
func (g *Grid) Reference() *Arm {
	for _, a := range g.Arms {
		if a.Name == g.Spec.Reference {
			return a
		}
	}
	panic("experiments: a validated grid has its reference")
}

// comparable refuses a variant that would see other samples than the reference.
func (a *Arm) comparable(reference *Arm) error {
	ours, err := config.Diff(sampling(reference.Config), sampling(a.Config))
	if err != nil || len(ours) == 0 {
		return err
	}
	d := ours[0]
	return fmt.Errorf("%w: variant %s: %s is %s, that of %s is %s: all variants of a seed have to see the same samples; change it in set",
		ErrGrid, a.Name, d.Key, d.B, reference.Name, d.A)
}

// sampling is cfg with all set back that does not decide which samples a step reads
// and what is validated.
func sampling(cfg trainer.Config) trainer.Config {
	kept := trainer.Default()
	kept.Data = cfg.Data
	kept.Data.CacheDir, kept.Data.Prefetch = "", 0
	t := &kept.Trainer
	t.Steps, t.Minutes, t.Seed = cfg.Trainer.Steps, cfg.Trainer.Minutes, cfg.Trainer.Seed
	t.BatchSize, t.Accumulation = cfg.Trainer.BatchSize*cfg.Trainer.Accumulation, 1
	t.EvalEvery, t.EvalTokens = cfg.Trainer.EvalEvery, cfg.Trainer.EvalTokens
	return kept
}

// fits refuses problems that would be cut at the ends of sequences.
func (r Recall) fits(cfg trainer.Config) error {
	if r.Share == 0 {
		return nil
	}
	for _, n := range r.Lengths {
		if cfg.Data.SequenceLength%n != 0 {
			return fmt.Errorf("%w: recall.lengths: %d does not divide data.sequence_length, %d: problems would be cut", ErrGrid, n, cfg.Data.SequenceLength)
		}
	}
	return nil
}
