package cuda

import (
	"fmt"

	"jambalaya/internal/engine"
)

func init() {
	register("conv1d", conv1d)
	register("conv1d_grad", conv1dGrad)
}

// Positions that a thread of the convolution takes at a time.
const (
	convStep     = 8
	convGradStep = 4
)

const (
	convThreads = 128
	convWidth   = 4                 // channels of a thread at most
	convTaps    = 32 - convStep + 2 // at most: a word has a bit for each position that they see
	convTile    = 64                // positions of a tile, at most
	convBlocks  = 512               // below which tiles are halved
	convLeast   = 32                // positions of a tile, at least
	convWave    = 396               // blocks of the gradient that an H200 runs at a time
)

// convolution is the geometry of a convolution and its inputs.
type convolution struct {
	batch, length, dim, taps int
	x, w, bias, docs, s0     *engine.Tensor
	vec                      define
	width                    int // channels of a thread
}

func newConvolution(a *args) convolution {
	c := convolution{batch: a.Attrs.Int("batch"), length: a.Attrs.Int("length"), taps: a.Attrs.Int("kernel")}
	c.x, c.w, c.bias, c.docs, c.s0 = a.in(true), a.in(true), a.in(a.Attrs.Bool("bias")), a.in(true), a.in(a.Attrs.Bool("state"))
	c.dim = c.x.Dim(1)
	if c.taps > convTaps {
		a.fail(fmt.Errorf("cuda: a convolution with %d taps is not supported: at most %d", c.taps, convTaps))
	}
	return c
}

// channels is the part of a grid over channels.
func (c convolution) channels() grid {
	threads := threadsFor(c.dim/c.width, convThreads)
	return grid{x: blocks(c.dim/c.width, threads), threads: threads}
}

// tiles cuts rows into tiles, and returns their length.
func (c convolution) tiles() (grid, int) {
	g, tile := c.channels(), convTile
	g.z = c.batch
	for g.y = blocks(c.length, tile); tile > convLeast && g.x*g.y*g.z < convBlocks; g.y = blocks(c.length, tile) {
		tile /= 2
	}
	return g, tile
}

// gradTiles cuts rows into tiles so long that all run at once, as each starts anew with
// what its neighbour has read; where there are too many rows for that, into some more, of
// which the last to run leave little idle.
func (c convolution) gradTiles() (grid, int) {
	g := c.channels()
	g.z = c.batch
	n := convWave / (g.x * g.z)
	if n == 0 {
		n = blocks(4*convWave, g.x*g.z)
	}
	tile := max(blocks(c.length, n), convLeast)
	g.y = blocks(c.length, tile)
	return g, tile
}

// file compiles the kernels for the positions of a step, the outputs of the operator and
// the gradients that it takes.
func (c *convolution) file(a *args, step int, y, s1, dx, dy *engine.Tensor, states ...*engine.Tensor) file {
	c.vec, c.width = vector(c.dim, append(states, c.x, c.w, c.bias, c.s0, y, s1, dx, dy)...)
	if c.width > convWidth { // the windows of more channels take too many registers
		c.vec, c.width = constant("VEC", convWidth), convWidth
	}
	return a.file("conv1d", c.vec, constant("K", c.taps), constant("STEP", step), typed("X", c.x), typed("W", c.w), typed("BIAS", c.bias), typed("Y", y),
		typed("DX", dx), typed("DY", dy))
}

func conv1d(a *args) {
	c := newConvolution(a)
	y, s1 := a.out(0), a.out(1)
	f := c.file(a, convStep, y, s1, nil, nil)
	if y != nil {
		g, tile := c.tiles()
		f.launch("conv1d", g, y, c.x, c.w, c.bias, c.docs, c.s0, c.length, c.dim, tile)
	}
	if s1 != nil && c.taps > 1 {
		g := c.channels()
		g.y = c.batch
		f.launch("conv1d_state", g, s1, c.x, c.docs, c.s0, c.length, c.dim)
	}
}

func conv1dGrad(a *args) {
	c := newConvolution(a)
	dy, ds1 := a.in(true), a.in(a.Attrs.Bool("has_dstate"))
	dx, dw := a.out(0), a.out(1)
	var dbias, ds0 *engine.Tensor
	if c.bias != nil {
		dbias = a.out(2)
	}
	if c.s0 != nil {
		ds0 = a.Out[len(a.Out)-1]
	}
	f := c.file(a, convGradStep, nil, nil, dx, dy, ds0, ds1)
	g, tile := c.gradTiles()
	parts, stride := g.y*g.z, c.dim*(c.taps+1)
	sums := a.scratch(parts * stride)
	f.launch("conv1d_grad", g, dx, ds0, sums, c.x, c.w, c.bias, c.docs, c.s0, dy, ds1, c.length, c.dim, tile)
	a.sumParts(dw, sums, parts, stride, c.dim*c.taps)
	a.sumParts(dbias, sums+address(4*c.dim*c.taps), parts, stride, c.dim)
}
