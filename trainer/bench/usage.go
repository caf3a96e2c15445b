package bench

import (
	"cmp"
	"slices"
	"time"

	"jambalaya/internal/engine"
)

// Usage is the part of a step that an operator takes.
type Usage struct {
	Kernel string  `json:"kernel"`
	Calls  int     `json:"calls"`
	MS     float64 `json:"ms"`
	Share  float64 `json:"share"`       // of the step
	Flops  float64 `json:"flops"`       // a second; 0 for a pass over memory
	Bytes  float64 `json:"bytes_per_s"` // operands and results
}

// usage adds the calls of each kernel up, the dearest first.
func usage(plans []*engine.Plan, spent [][]time.Duration) []Usage {
	type sum struct {
		work
		calls int
		time  time.Duration
	}
	sums := map[string]sum{}
	for i, p := range plans {
		for j, c := range p.Calls() {
			s := sums[c.Kernel]
			sums[c.Kernel] = sum{s.plus(workOf(c)), s.calls + 1, s.time + spent[i][j]}
		}
	}
	var all []Usage
	for kernel, s := range sums {
		seconds := s.time.Seconds()
		all = append(all, Usage{Kernel: kernel, Calls: s.calls, MS: seconds * 1e3, Flops: s.flops / seconds, Bytes: s.bytes / seconds})
	}
	slices.SortFunc(all, func(a, b Usage) int { return cmp.Or(cmp.Compare(b.MS, a.MS), cmp.Compare(a.Kernel, b.Kernel)) })
	return all
}
