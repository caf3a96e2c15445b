package model

import (
	"fmt"
	"math"
	"sort"

	"jambalaya/internal/prng"
)

// Sampling says how the next token is drawn from the logits.
type Sampling struct {
	Temperature float64 // 0: the most likely token
	TopK        int     // only the k most likely tokens; 0: all
	TopP        float64 // only the most likely tokens that together reach p; 0 or 1: all
	Seed        uint64
}

// Validate reports settings that make no sense.
func (s Sampling) Validate() error {
	switch {
	case s.Temperature < 0 || math.IsNaN(s.Temperature) || math.IsInf(s.Temperature, 0):
		return fmt.Errorf("temperature %g: want 0 (greedy) or more", s.Temperature)
	case s.TopK < 0:
		return fmt.Errorf("top-k %d: want 0 (off) or more", s.TopK)
	case !(s.TopP >= 0 && s.TopP <= 1):
		return fmt.Errorf("top-p %g: want a probability; 0 or 1 is off", s.TopP)
	}
	return nil
}

// Sampler draws tokens. The same seed and logits give the same tokens.
type Sampler struct {
	Sampling
	rng   *prng.Rand
	order []int
	probs []float64
}

// NewSampler returns a sampler; the settings must be valid.
func NewSampler(s Sampling) *Sampler {
	return &Sampler{Sampling: s, rng: prng.New(s.Seed, "sample")}
}

// Next draws a token from the logits, of which only the first vocab stand for
// tokens.
func (s *Sampler) Next(logits []float32, vocab int) int {
	logits = logits[:vocab]
	if s.Temperature == 0 {
		return argmax(logits)
	}
	s.order = s.order[:0]
	for i := range logits {
		s.order = append(s.order, i)
	}
	sort.SliceStable(s.order, func(i, j int) bool { return logits[s.order[i]] > logits[s.order[j]] })
	if s.TopK > 0 && s.TopK < len(s.order) {
		s.order = s.order[:s.TopK]
	}
	s.probs = s.probs[:0]
	sum := 0.0
	for _, i := range s.order {
		p := math.Exp(float64(logits[i]-logits[s.order[0]]) / s.Temperature)
		s.probs = append(s.probs, p)
		sum += p
	}
	if s.TopP > 0 && s.TopP < 1 {
		sum = s.nucleus(sum)
	}
	u := s.rng.Float64() * sum
	for i, p := range s.probs {
		if u -= p; u < 0 {
			return s.order[i]
		}
	}
	return s.order[len(s.probs)-1]
}

// nucleus keeps the smallest set of tokens whose probability reaches TopP, and
// returns what it sums to.
func (s *Sampler) nucleus(sum float64) float64 {
	kept := 0.0
	for i, p := range s.probs {
		if kept += p; kept >= s.TopP*sum {
			s.probs = s.probs[:i+1]
			break
		}
	}
	return kept
}

// argmax is the first of the largest logits.
func argmax(logits []float32) int {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return best
}
