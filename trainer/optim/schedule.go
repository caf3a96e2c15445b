package optim

import "math"

// Rate is the learning rate of step, which counts from 1 to steps. In the steps of
// warm-up it rises linearly, then it follows Schedule, of which the part that is done
// is measured before the step: even the last one has an effect.
func (c Config) Rate(step, steps int64) float64 {
	warmup := min(int64(c.WarmupSteps), steps/2)
	if step <= warmup {
		return c.LR * float64(step) / float64(warmup)
	}
	ratio := 1.0
	switch c.Schedule {
	case Cosine:
		ratio = (1 + math.Cos(math.Pi*part(step, warmup, steps))) / 2
	case WSD:
		decay := max(warmup, steps-int64(math.Round(c.DecayFraction*float64(steps))))
		ratio = 1 - math.Sqrt(part(step, decay, steps))
	}
	return c.LR * (c.MinLRRatio + (1-c.MinLRRatio)*ratio)
}

// part is how much of the steps after start and up to end is done before step.
func part(step, start, end int64) float64 {
	if step <= start {
		return 0
	}
	return min(1, float64(step-1-start)/float64(end-start))
}

// Corrections are the sums 1 - beta^t by which the moments of update t, counted
// from 1, are too small because they started at zero.
func (c Config) Corrections(t int64) (first, second float64) {
	return 1 - math.Pow(c.Betas[0], float64(t)), 1 - math.Pow(c.Betas[1], float64(t))
}
