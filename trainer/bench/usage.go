package bench

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
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

// usage adds the calls of each kernel up, the dearest first; with shapes, products of
// different shapes apart.
func usage(plans []*engine.Plan, spent [][]time.Duration, shapes bool) []Usage {
	type sum struct {
		work
		calls int
		time  time.Duration
	}
	sums := map[string]sum{}
	for i, p := range plans {
		for j, c := range p.Calls() {
			name := c.Kernel
			if shapes {
				name += productShape(c)
			}
			s := sums[name]
			sums[name] = sum{s.plus(workOf(c)), s.calls + 1, s.time + spent[i][j]}
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

// productShape is what a product's calls are told apart by, empty for other kernels:
// rows, columns and inner dimension, for matmul behind the letters of its transposes.
func productShape(c *engine.Call) string {
	switch {
	case c.Kernel == "matmul":
		p := product{m: c.Out[0].Dim(0), n: c.Out[0].Dim(1), ta: c.Attrs.Bool("ta"), tb: c.Attrs.Bool("tb")}
		p.k = c.In[0].Size() / p.m
		return p.String()
	case c.Kernel == "grouped_matmul_dw":
		return fmt.Sprintf(" %dx%dx%d", c.In[0].Dim(1), c.In[1].Dim(1), c.In[0].Dim(0))
	case strings.HasPrefix(c.Kernel, "grouped_matmul"):
		return fmt.Sprintf(" %dx%dx%d", c.Out[0].Dim(0), c.Out[0].Dim(1), c.In[0].Dim(1))
	}
	return ""
}
