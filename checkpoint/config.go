package checkpoint

import "jambalaya/internal/config"

// Config is the checkpoint section of a run's configuration.
type Config struct {
	Every       int `yaml:"every"`        // optimiser steps from one checkpoint to the next
	Keep        int `yaml:"keep"`         // newest checkpoints that stay
	KeepEvery   int `yaml:"keep_every"`   // those of steps divisible by this stay for good; 0: none
	MaxFailures int `yaml:"max_failures"` // failed saves in a row that end the run
}

// Default keeps the last three checkpoints of every hundredth step.
func Default() Config { return Config{Every: 100, Keep: 3, KeepEvery: 0, MaxFailures: 3} }

// Validate returns all faults at once, each with its key.
func (c Config) Validate() error {
	var faults config.Faults
	atLeast := func(key string, value, min int) {
		if value < min {
			faults.Add(key, "%d is below %d", value, min)
		}
	}
	atLeast("every", c.Every, 1)
	atLeast("keep", c.Keep, 1)
	atLeast("keep_every", c.KeepEvery, 0)
	atLeast("max_failures", c.MaxFailures, 1)
	return faults.Err()
}
