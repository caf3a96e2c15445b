package optim

import (
	"math"

	"jambalaya/internal/config"
)

// Schedule names the course of the learning rate.
type Schedule string

const (
	// WSD warms up, stays, and decays at the end as 1 - sqrt (Hägele et al. 2024,
	// arXiv 2405.18392).
	WSD Schedule = "wsd"
	// Cosine warms up and decays along half a cosine.
	Cosine Schedule = "cosine"
	// Constant warms up and stays.
	Constant Schedule = "constant"
)

// Config describes the optimiser.
type Config struct {
	Name        string     `yaml:"name"` // adamw
	LR          float64    `yaml:"lr"`   // the largest learning rate
	Betas       [2]float64 `yaml:"betas"`
	Eps         float64    `yaml:"eps"`
	WeightDecay float64    `yaml:"weight_decay"` // not of norms, biases, A_log and D
	ClipNorm    float64    `yaml:"clip_norm"`    // largest global norm of the gradient; 0: no clipping

	Schedule      Schedule `yaml:"schedule"`
	WarmupSteps   int      `yaml:"warmup_steps"`   // at most half of the steps
	DecayFraction float64  `yaml:"decay_fraction"` // the part of the steps in which wsd decays
	MinLRRatio    float64  `yaml:"min_lr_ratio"`   // the last learning rate over the largest
}

// Default returns AdamW as small language models are usually trained.
func Default() Config {
	return Config{
		Name:          "adamw",
		LR:            1e-3,
		Betas:         [2]float64{0.9, 0.95},
		Eps:           1e-8,
		WeightDecay:   0.1,
		ClipNorm:      1,
		Schedule:      WSD,
		WarmupSteps:   100,
		DecayFraction: 0.2,
		MinLRRatio:    0.02,
	}
}

// Validate returns every fault, joined.
func (c Config) Validate() error {
	var f config.Faults
	within := func(key string, x, low, high float64, what string) {
		if !(x >= low && x <= high) { // so that NaN is refused
			f.Add(key, "%v is not %s", x, what)
		}
	}
	below1 := math.Nextafter(1, 0)
	if c.Name != "adamw" {
		f.Add("name", "%q is not an optimiser; there is adamw", c.Name)
	}
	within("lr", c.LR, math.SmallestNonzeroFloat64, 1, "above 0 and at most 1")
	within("betas", c.Betas[0], 0, below1, "at least 0 and below 1")
	within("betas", c.Betas[1], 0, below1, "at least 0 and below 1")
	within("eps", c.Eps, math.SmallestNonzeroFloat32, 1, "above 0 and at most 1")
	within("weight_decay", c.WeightDecay, 0, 1/max(c.LR, 1e-9), "between 0 and 1/lr")
	within("clip_norm", c.ClipNorm, 0, math.MaxFloat32, "a finite number of at least 0")
	switch c.Schedule {
	case WSD, Cosine, Constant:
	default:
		f.Add("schedule", "%q is not one of %s, %s, %s", c.Schedule, WSD, Cosine, Constant)
	}
	if c.WarmupSteps < 0 {
		f.Add("warmup_steps", "%d is below 0", c.WarmupSteps)
	}
	within("decay_fraction", c.DecayFraction, 0, 1, "between 0 and 1")
	within("min_lr_ratio", c.MinLRRatio, 0, 1, "between 0 and 1")
	return f.Err()
}
