package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() {
	register("conv1d", sized(conv1d))
	register("conv1d_grad", sized(conv1dGrad))
}

// gradBlock is the number of rows whose gradient goes by one call, which computes the first rows of the next block, too.
// What it keeps of them, and reads meanwhile, fits into 1 MB for 512 channels.
const gradBlock = 2 * rowBlock

// conv is a causal convolution over the rows of a batch.
type conv struct {
	batch, length, dim, kernel int
	w, wt                      []float32   // [dim, kernel], and transposed for simd
	rows                       []simd.Conv // one a row of the batch
}

// newConv takes the inputs x, w, b, docs and s0.
func newConv(a *args) *conv {
	c := &conv{batch: a.Attrs.Int("batch"), length: a.Attrs.Int("length"), kernel: a.Attrs.Int("kernel"), dim: a.In[0].Dim(-1)}
	x, w, bias, docs, s0 := a.in(true), a.in(true), a.in(a.Attrs.Bool("bias")), a.ints(), a.in(a.Attrs.Bool("state"))
	c.w, c.wt = w, a.scratch(c.kernel*c.dim)
	zeros := make([]float32, c.dim)
	if bias == nil {
		bias = zeros
	}
	c.rows = make([]simd.Conv, c.batch)
	for i := range c.rows {
		c.rows[i] = simd.Conv{Length: c.length, Dim: c.dim, Kernel: c.kernel, W: c.wt, B: bias, Zeros: zeros,
			X: c.inputs(x, i), Docs: part(docs, i, c.length), S0: c.state(s0, i)}
	}
	return c
}

// inputs is row i of a batch of [length, dim], state of a batch of [kernel-1, dim].
func (c *conv) inputs(x []float32, i int) []float32 { return part(x, i, c.length*c.dim) }

func (c *conv) state(x []float32, i int) []float32 { return part(x, i, (c.kernel-1)*c.dim) }

func (c *conv) transpose() { simd.ConvWeights(c.wt, c.w, c.dim, c.kernel) }

func conv1d(b *Backend, a *args) func() error {
	c := newConv(a)
	y, s1 := a.outOrScratch(0, c.batch*c.length*c.dim), a.out(1)
	per := blocks(c.length, rowBlock)
	task := func(task, _ int) {
		i, t0 := task/per, task%per*rowBlock
		c.rows[i].Forward(c.inputs(y, i), t0, min(t0+rowBlock, c.length))
	}
	return step(c.transpose, func() { b.pool.Run(c.batch*per, task) }, func() {
		for i := 0; s1 != nil && i < c.batch; i++ { // afterwards: s1 may be s0
			c.rows[i].State(c.state(s1, i))
		}
	})
}

func conv1dGrad(b *Backend, a *args) func() error {
	c := newConv(a)
	rows, weights := c.batch*c.length, c.kernel*c.dim
	dy, ds1 := a.in(true), a.in(a.Attrs.Bool("has_dstate"))
	dx, dw, next := a.outOrScratch(0, rows*c.dim), a.out(1), 2
	var db, ds0 []float32
	if a.Attrs.Bool("bias") {
		db = a.out(next)
		next++
	}
	if a.Attrs.Bool("state") {
		ds0 = a.out(next)
	}
	// A task takes a block of the sum: as many positions of one row.
	size := sumBlock(rows)
	per := blocks(c.length, size)
	sum := rowSum{width: weights + c.dim, block: 1, parts: a.scratch(c.batch * per * (weights + c.dim))}
	total, work := a.scratch(sum.width), a.perWorker(b, c.rows[0].GradWork(gradBlock))
	task := func(task, worker int) {
		i, g := task/per, sum.part(task)
		end := min((task%per+1)*size, c.length)
		for t := task % per * size; t < end; t += gradBlock {
			c.rows[i].Grad(c.inputs(dx, i), c.state(ds0, i), g[:weights], g[weights:], c.inputs(dy, i), c.state(ds1, i),
				work[worker], t, min(t+gradBlock, end))
		}
	}
	return step(c.transpose, func() { b.pool.Run(c.batch*per, task) }, func() {
		sum.total(total)
		copy(db, total[weights:])
		if dw != nil {
			clear(dw)
			simd.ConvWeightsGrad(dw, total[:weights], c.dim, c.kernel)
		}
	})
}
