package optim

import "math"

// Verdict says what became of a step.
type Verdict string

const (
	// Applied steps changed the weights.
	Applied Verdict = ""
	// NonFinite steps had a loss or gradient that is not a finite number.
	NonFinite Verdict = "non-finite"
	// Spike steps had a loss far above the recent ones.
	Spike Verdict = "spike"
)

// window is the number of losses that a loss is compared with.
const window = 128

// State is what steps leave behind on the host. The zero value is that of a
// fresh run.
type State struct {
	Applied   int64 `json:"applied"` // updates so far: t of the bias corrections
	NonFinite int64 `json:"non_finite"`
	Spikes    int64 `json:"spikes"`
	// Losses are the last finite losses, at most window of them, oldest first.
	Losses []float64 `json:"losses"`
}

// Judge says, before the update, whether a step with this loss should be applied.
// A spike is a loss of more than threshold standard deviations above the mean of
// a full window; threshold 0 takes nothing for a spike. (llm.c skips updates by
// the same measure.)
func (s *State) Judge(loss, threshold float64) Verdict {
	switch {
	case !finite(loss):
		return NonFinite
	case threshold > 0 && len(s.Losses) == window && s.deviations(loss) > threshold:
		return Spike
	}
	return Applied
}

// Record counts a step after its update, which a gradient norm that is not finite
// has stopped from changing anything, and returns the final verdict. Losses of
// spikes enter the window, so that a loss that stays high is soon a normal one.
func (s *State) Record(verdict Verdict, loss, gradNorm float64) Verdict {
	if !finite(gradNorm) {
		verdict = NonFinite
	}
	switch verdict {
	case Applied:
		s.Applied++
	case NonFinite:
		s.NonFinite++
	case Spike:
		s.Spikes++
	}
	if finite(loss) {
		if len(s.Losses) == window {
			s.Losses = append(s.Losses[:0], s.Losses[1:]...)
		}
		s.Losses = append(s.Losses, loss)
	}
	return verdict
}

// deviations is the distance of a loss from the mean of the window in standard
// deviations.
func (s *State) deviations(loss float64) float64 {
	var mean, variance float64
	for _, x := range s.Losses {
		mean += x / window
	}
	for _, x := range s.Losses {
		variance += (x - mean) * (x - mean) / window
	}
	return (loss - mean) / math.Sqrt(variance)
}

func finite(x float64) bool { return !math.IsNaN(x) && !math.IsInf(x, 0) }
