package trainer

import (
	"context"

	"jambalaya/internal/config"
)

// Prepared is a run's directory and data, ready for the ranks of a world.
type Prepared struct {
	Config Config // as this run goes on with it
	dir    *runDir
}

// Prepare readies what the ranks of a world share, before they start: it makes and
// locks the run's directory, moves an earlier run in it aside if Fresh says so,
// compares the configuration with that of the run that goes on, and shards the text if
// that has not been done.
func Prepare(ctx context.Context, cfg Config, opt Options) (*Prepared, error) {
	r := &run{cfg: cfg, opt: opt}
	var err error
	if r.team, err = newTeam(alone(cfg), nil); err != nil {
		return nil, err
	}
	defer r.close()
	for _, part := range []func(context.Context) error{r.openDir, r.openCorpus} {
		if err := part(ctx); err != nil {
			return nil, err
		}
	}
	if err := r.checkVocabulary(); err != nil {
		return nil, err
	}
	p := &Prepared{Config: r.cfg, dir: r.dir}
	r.dir = nil // it stays locked
	return p, nil
}

// Close unlocks the directory.
func (p *Prepared) Close() { p.dir.close() }

// alone is a configuration for one rank.
func alone(c Config) Config {
	c.Parallel.Data, c.Parallel.Expert = 1, 1
	return c
}

// Facts are the values that must be the same on all workers of a run, by key: all but
// those of the device and what only one of them does.
func (c Config) Facts() ([]config.Value, error) {
	f := c.identity()
	f.Parallel, f.Checkpoint = c.Parallel, c.Checkpoint
	f.Trainer.EvalEvery, f.Trainer.EvalTokens, f.Trainer.Minutes = c.Trainer.EvalEvery, c.Trainer.EvalTokens, c.Trainer.Minutes
	return config.Values(f)
}
