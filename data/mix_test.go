package data

import (
	"errors"
	"math"
	"testing"

	"pgregory.net/rapid"
)

// TestMixAnyPrefix: after any number of samples each source has its share to
// within one.
func TestMixAnyPrefix(t *testing.T) {
	t.Parallel()
	for _, weights := range [][]float64{
		{1}, {1, 1}, {0.7, 0.3}, {1, 2, 3}, {1. / 3, 1. / 3, 1. / 3}, {5, 1, 1, 1, 1, 1}, {1e-3, 1}, {math.Pi, math.E, 1},
		{0.9, 0.05, 0.03, 0.02}, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1},
	} {
		m, err := newMix(weights)
		if err != nil {
			t.Fatal(err)
		}
		sum := 0.0
		for _, w := range weights {
			sum += w
		}
		counts := make([]int64, len(weights))
		for k := range int64(70_000) {
			source, sample := m.at(k)
			if sample != counts[source] {
				t.Fatalf("%v: sample %d is number %d of source %d, after %d", weights, k, sample, source, counts[source])
			}
			counts[source]++
			for i, n := range counts {
				share := float64(m.share[i]) / float64(len(m.turn))
				if off := math.Abs(float64(n) - share*float64(k+1)); off >= 1 {
					t.Fatalf("%v: after %d samples source %d is off by %v", weights, k+1, i, off)
				}
				if math.Abs(share-weights[i]/sum) > 1./maxPeriod {
					t.Fatalf("%v: source %d has the share %v", weights, i, share)
				}
			}
		}
	}
}

func TestMixIsExactForSimpleWeights(t *testing.T) {
	t.Parallel()
	m, err := newMix([]float64{0.7, 0.2, 0.1})
	if err != nil || len(m.turn) != 10 {
		t.Errorf("got a round of %d turns, %v", len(m.turn), err)
	}
}

func TestMixTooSmall(t *testing.T) {
	t.Parallel()
	if _, err := newMix([]float64{1, 1e-9}); !errors.Is(err, ErrConfig) {
		t.Errorf("got %v", err)
	}
}

func TestMixRandom(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		weights := rapid.SliceOfN(rapid.Float64Range(0.01, 1), 1, 12).Draw(t, "weights")
		m, err := newMix(weights)
		if err != nil {
			t.Fatal(err)
		}
		dealt := make([]int, len(weights))
		for k, source := range m.turn {
			dealt[source]++
			for i, n := range dealt {
				if off := n*len(m.turn) - m.share[i]*(k+1); off >= len(m.turn) || off <= -len(m.turn) {
					t.Fatalf("source %d is off by %d/%d after %d", i, off, len(m.turn), k+1)
				}
			}
		}
	})
}
