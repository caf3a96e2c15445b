package trainer

import "jambalaya/internal/config"

// identity is c with all that no weight depends on set back: what a start may
// change of the run that it resumes.
func (c Config) identity() Config {
	standard := Default()
	c.Checkpoint, c.Parallel = standard.Checkpoint, standard.Parallel
	c.Parallel.BucketMiB = 4 // the default when hashes were first made
	c.Data.CacheDir, c.Data.Prefetch = standard.Data.CacheDir, standard.Data.Prefetch
	t, d := &c.Trainer, standard.Trainer
	t.Minutes, t.Device, t.Precision, t.Threads = d.Minutes, d.Device, d.Precision, d.Threads
	t.EvalEvery, t.EvalTokens = d.EvalEvery, d.EvalTokens
	t.Samples, t.SampleEvery, t.SampleTokens, t.SamplePrompts = d.Samples, d.SampleEvery, d.SampleTokens, d.SamplePrompts
	t.SampleTemperature, t.SampleTopP = d.SampleTemperature, d.SampleTopP
	return c
}

// Resume returns the configuration with which to go on with a run whose
// configuration was recorded: c, with the number of steps that the run's time was
// once turned into. It fails, with a line for each key, if c is of another run.
func (c Config) Resume(recorded Config) (Config, error) {
	budget := c.Trainer.Minutes > 0 && c.Trainer.Minutes == recorded.Trainer.Minutes
	if budget && (c.Trainer.Steps == 0 || c.Trainer.Steps >= recorded.Trainer.Steps) {
		c.Trainer.Steps = recorded.Trainer.Steps
	}
	differences, err := config.Diff(recorded.identity(), c.identity())
	if err != nil {
		return c, err
	}
	var f config.Faults
	for _, d := range differences {
		f.Add(d.Key, "the run was started with %s, not %s; go on with that, or start another run with --out or --fresh", d.A, d.B)
	}
	return c, f.Err()
}

// StepsWithin is the number of steps to train when one takes the given seconds.
func (c RunConfig) StepsWithin(secondsPerStep float64) int {
	if c.Minutes == 0 {
		return c.Steps
	}
	fit := max(1, int(min(60*c.Minutes/secondsPerStep, 1<<30)))
	if c.Steps == 0 {
		return fit
	}
	return min(c.Steps, fit)
}
