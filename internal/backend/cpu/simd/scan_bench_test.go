package simd

import "testing"

// BenchmarkScan measures one row of a batch: nanoseconds a step and channel, for 16 states.
func BenchmarkScan(b *testing.B) {
	const length, dim, chunk = 256, 512, 32
	s := newSource(b)
	c := randomScan(s, length, dim, 16, chunk, false)
	clear(c.Docs)
	size, states := length*dim, dim*16
	y, starts := s.junk(size), s.junk(c.chunks()*states)
	g := ScanGrads{DX: s.junk(size), DDt: s.junk(size), DZ: s.junk(size), DBias: s.junk(dim), DALog: s.junk(states),
		DDSkip: s.junk(dim), DY: s.normal(size, 1), Starts: starts, DB: s.junk(length * 16), DC: s.junk(length * 16)}
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
