package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() {
	register("selective_scan", sized(selectiveScan))
	register("selective_scan_grad", sized(selectiveScanGrad))
}

// scanBlock is the number of channels in a task, and in a block of the sums over channels.
const scanBlock = 64

// scan is a selective scan over the rows of a batch.
type scan struct {
	batch, length, dim, states, chunks int
	rows                               []simd.Scan // one a row of the batch
}

// newScan takes the inputs of the forward operator.
func newScan(a *args) *scan {
	s := &scan{batch: a.Attrs.Int("batch"), length: a.Attrs.Int("length"), dim: a.In[3].Dim(0), states: a.In[3].Dim(1)}
	chunk := a.Attrs.Int("chunk")
	s.chunks = blocks(s.length, chunk)
	x, dt, bias, alog := a.in(true), a.in(true), a.in(true), a.in(true)
	bmat, cmat, skip, z := a.in(true), a.in(true), a.in(true), a.in(true)
	docs, h0 := a.ints(), a.in(a.Attrs.Bool("state"))
	for i := range s.batch {
		s.rows = append(s.rows, simd.Scan{Length: s.length, Dim: s.dim, States: s.states, Chunk: chunk,
			X: s.channels(x, i), Dt: s.channels(dt, i), Z: s.channels(z, i), Bias: bias, ALog: alog, DSkip: skip,
			B: s.projection(bmat, i), C: s.projection(cmat, i), Docs: part(docs, i, s.length), H0: s.state(h0, i)})
	}
	return s
}

// channels is row i of a batch of [length, dim], projection of [length, states], state of [dim, states] and
// starts of [chunks, dim, states].
func (s *scan) channels(x []float32, i int) []float32 { return part(x, i, s.length*s.dim) }

func (s *scan) projection(x []float32, i int) []float32 { return part(x, i, s.length*s.states) }

func (s *scan) state(x []float32, i int) []float32 { return part(x, i, s.dim*s.states) }

func (s *scan) starts(x []float32, i int) []float32 { return part(x, i, s.chunks*s.dim*s.states) }

// run returns the function that calls f for every row of the batch and block of channels [c0, c1).
func (s *scan) run(b *Backend, f func(i, c0, c1, worker int)) func() {
	per := blocks(s.dim, scanBlock)
	task := func(task, worker int) {
		c0 := task % per * scanBlock
		f(task/per, c0, min(c0+scanBlock, s.dim), worker)
	}
	return func() { b.pool.Run(s.batch*per, task) }
}

func selectiveScan(b *Backend, a *args) func() error {
	s := newScan(a)
	y, h1, starts := a.outOrScratch(0, s.batch*s.length*s.dim), a.out(1), a.out(2)
	work := a.perWorker(b, s.rows[0].ForwardWork(min(scanBlock, s.dim)))
	return step(s.run(b, func(i, c0, c1, worker int) {
		s.rows[i].Forward(s.channels(y, i), s.state(h1, i), s.starts(starts, i), work[worker], c0, c1)
	}))
}

func selectiveScanGrad(b *Backend, a *args) func() error {
	s := newScan(a)
	tokens, per := s.batch*s.length, blocks(s.dim, scanBlock)
	starts, dy, dh1 := a.in(true), a.in(true), a.in(a.Attrs.Bool("has_dstate"))
	dx, ddt, dz := a.outOrScratch(0, tokens*s.dim), a.outOrScratch(1, tokens*s.dim), a.outOrScratch(7, tokens*s.dim)
	dbias, dalog, db, dc, ddskip, dh0 := a.out(2), a.out(3), a.out(4), a.out(5), a.out(6), a.out(8)
	// Gradients that are sums over rows or over channels have a part for each, added at the end.
	biases, skips, alogs := a.scratch(s.batch*s.dim), a.scratch(s.batch*s.dim), a.scratch(s.batch*s.dim*s.states)
	bs, cs := a.scratch(s.batch*per*s.length*s.states), a.scratch(s.batch*per*s.length*s.states)
	work := a.perWorker(b, s.rows[0].GradWork(min(scanBlock, s.dim)))
	grads := make([]simd.ScanGrads, s.batch*per)
	for task := range grads {
		i := task / per
		grads[task] = simd.ScanGrads{DX: s.channels(dx, i), DDt: s.channels(ddt, i), DZ: s.channels(dz, i), DH0: s.state(dh0, i),
			DBias: part(biases, i, s.dim), DALog: s.state(alogs, i), DDSkip: part(skips, i, s.dim),
			DB: s.projection(bs, task), DC: s.projection(cs, task),
			DY: s.channels(dy, i), DH1: s.state(dh1, i), Starts: s.starts(starts, i)}
	}
	backward := s.run(b, func(i, c0, c1, worker int) {
		s.rows[i].Grad(&grads[i*per+c0/scanBlock], work[worker], c0, c1)
	})
	sumChannels := func(i, _ int) {
		for _, g := range []struct{ dst, parts []float32 }{{db, bs}, {dc, cs}} {
			if g.dst != nil {
				dst := s.projection(g.dst, i)
				clear(dst)
				simd.SumRows(dst, part(g.parts, i, per*s.length*s.states))
			}
		}
	}
	return step(backward, func() {
		b.pool.Run(s.batch, sumChannels)
		sumRows(dbias, biases)
		sumRows(ddskip, skips)
		sumRows(dalog, alogs)
	})
}

// sumRows sets dst to the sum of the rows of parts; nil is not asked for.
func sumRows(dst, parts []float32) {
	if dst != nil {
		clear(dst)
		simd.SumRows(dst, parts)
	}
}
