package simd

import (
	"fmt"
	"testing"
)

// BenchmarkScan measures one row of a batch: nanoseconds a step and channel.
func BenchmarkScan(b *testing.B) {
	for _, states := range []int{16, 8, 32, 64} {
		b.Run(fmt.Sprint(states), func(b *testing.B) { benchScan(b, states) })
	}
}

func benchScan(b *testing.B, n int) {
	const length, dim, chunk = 256, 512, 32
	s := newSource(b)
	c := randomScan(s, length, dim, n, chunk, false)
	clear(c.Docs)
	size, states := length*dim, dim*n
	y, starts := s.junk(size), s.junk(c.chunks()*states)
	g := ScanGrads{DX: s.junk(size), DDt: s.junk(size), DZ: s.junk(size), DBias: s.junk(dim), DALog: s.junk(states),
		DDSkip: s.junk(dim), DY: s.normal(size, 1), Starts: starts, DB: s.junk(length * n), DC: s.junk(length * n)}
	work := s.junk(max(c.ForwardWork(64), c.GradWork(64)))
	run := func(name string, f func(c0, c1 int)) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				for c0 := 0; c0 < dim; c0 += 64 {
					f(c0, c0+64)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*size), "ns/element")
		})
	}
	run("forward", func(c0, c1 int) { c.Forward(y, nil, starts, work, c0, c1) })
	run("grad", func(c0, c1 int) { c.Grad(&g, work, c0, c1) })
}
