package data

import (
	"fmt"
	"math"
)

// maxPeriod bounds the table of a mix.
const maxPeriod = 1 << 16

// mix deals samples out to sources by weight: a fixed round of period turns, in
// which source i has share[i] turns, repeated for ever. After any number k of
// samples each source has had its share of k to within one.
type mix struct {
	share []int    // turns of each source in a round
	turn  []uint16 // source of each turn
	rank  []int32  // turns of that source before this one in the round
}

// newMix makes the round of the given weights, all above 0. Weights with a common
// denominator of up to 65,536 are met exactly, others to that grid.
func newMix(weights []float64) (*mix, error) {
	share, period := shares(weights)
	for i, n := range share {
		if n == 0 {
			return nil, &ConfigError{fmt.Sprintf("sources[%d].weight", i), fmt.Sprintf("%v is less than 1/%d of the sum of the weights; leave the source out", weights[i], maxPeriod)}
		}
	}
	m := &mix{share: share, turn: make([]uint16, period), rank: make([]int32, period)}
	dealt := make([]int, len(share))
	for t := range period {
		best, deadline := -1, math.MaxInt
		for i, n := range share {
			// The source's next turn may come from ⌊j·period/n⌋ on and has to be
			// over at ⌈(j+1)·period/n⌉. The earliest deadline first meets them all,
			// as one machine does with unit jobs (Tijdeman, "The chairman
			// assignment problem", 1980; Baruah et al., "Proportionate progress",
			// 1996).
			j := dealt[i]
			if j == n || j*period/n > t {
				continue
			}
			if d := ((j+1)*period + n - 1) / n; d < deadline {
				best, deadline = i, d
			}
		}
		m.turn[t], m.rank[t] = uint16(best), int32(dealt[best])
		dealt[best]++
	}
	return m, nil
}

// at returns the source of sample k, and which of that source's samples it is.
func (m *mix) at(k int64) (source int, sample int64) {
	period := int64(len(m.turn))
	t := k % period
	source = int(m.turn[t])
	return source, k/period*int64(m.share[source]) + int64(m.rank[t])
}

// shares returns whole numbers in proportion to the weights, and their sum: the
// smallest that are exact, or else those nearest on the finest grid.
func shares(weights []float64) (share []int, period int) {
	sum := 0.0
	for _, w := range weights {
		sum += w
	}
	for period = 1; period <= maxPeriod; period++ {
		if share, exact := roundTo(weights, sum, period); exact {
			return share, period
		}
	}
	share, _ = roundTo(weights, sum, maxPeriod)
	return share, maxPeriod
}

// roundTo scales weights to the sum period by the method of largest remainders. It
// is exact if every part is whole to within the accuracy of the weights.
func roundTo(weights []float64, sum float64, period int) (share []int, exact bool) {
	share = make([]int, len(weights))
	exact = true
	left := period
	for i, w := range weights {
		part := w / sum * float64(period)
		share[i] = int(math.Floor(part + 1e-9))
		left -= share[i]
		exact = exact && math.Abs(part-math.Round(part)) < 1e-9 && share[i] > 0
	}
	for ; left > 0; left-- {
		best, most := 0, math.Inf(-1)
		for i, w := range weights {
			if r := w/sum*float64(period) - float64(share[i]); r > most {
				best, most = i, r
			}
		}
		share[best]++
	}
	return share, exact
}
