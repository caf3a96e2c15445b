package solo

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/model/op"
)

const normEps = 1e-6

// MatMul is op(a)[m,k] op(b)[k,n] without a gradient.
func MatMul(m, n, k int, ta, tb bool) (Program, error) {
	g := newGraph()
	as, bs := []int{m, k}, []int{k, n}
	if ta {
		as = []int{k, m}
	}
	if tb {
		bs = []int{n, k}
	}
	return g.lower(g.MatMul(g.float(as...), g.float(bs...), ta, tb))
}

// RMSNorm is the joint of two sublayers: the residual sum and its norm.
func RMSNorm(rows, width int) (Program, error) {
	g := newGraph()
	y, sum := g.AddRMSNorm(g.float(rows, width), g.float(rows, width), g.single(width), normEps)
	return g.differentiated(y, sum)
}

// Conv is the causal convolution with its activation.
func Conv(batch, length, dim, kernel int) (Program, error) {
	g := newGraph()
	y, _ := g.Conv1D(g.float(batch*length, dim), g.single(dim, kernel), g.single(dim), g.docs(batch, length), nil, batch, length)
	return g.differentiated(y)
}

// SplitNorm is the norm of the three parts of what x_proj gives.
func SplitNorm(rows, rank, states int) (Program, error) {
	g := newGraph()
	dt, b, c := g.SplitNorm(g.float(rows, rank+2*states), g.single(rank), g.single(states), g.single(states), rank, states, normEps)
	return g.differentiated(dt, b, c)
}

// Scan is the selective scan with its gate.
func Scan(batch, length, dim, states, chunk int) (Program, error) {
	g, rows := newGraph(), batch*length
	y, _ := g.SelectiveScan(op.ScanInputs{X: g.float(rows, dim), Dt: g.float(rows, dim), Bias: g.single(dim), ALog: g.single(dim, states),
		B: g.float(rows, states), C: g.float(rows, states), D: g.single(dim), Z: g.float(rows, dim), Docs: g.docs(batch, length)},
		batch, length, chunk)
	return g.differentiated(y)
}

// Attention is causal attention of one document a row.
func Attention(batch, length int, h op.Heads) (Program, error) {
	g := newGraph()
	return g.differentiated(g.Attention(g.float(batch*length, h.Width()), g.docs(batch, length), h))
}

// SwiGLU is silu(gate) * up of rows of a gate and an up part of the given width.
func SwiGLU(rows, width int) (Program, error) {
	g := newGraph()
	return g.differentiated(g.SwiGLU(g.float(rows, 2*width)))
}

// CrossEntropy is the loss of one target a row.
func CrossEntropy(rows, vocab int) (Program, error) {
	g := newGraph()
	loss, _ := g.CrossEntropy(g.float(rows, vocab), g.ints(vocab, 1, rows))
	return g.differentiated(loss)
}

// Embedding looks tokens up.
func Embedding(rows, vocab, width int) (Program, error) {
	g := newGraph()
	return g.differentiated(g.Embedding(g.float(vocab, width), g.ints(vocab, 1, rows), -1))
}

// Add is a sum of two gradients.
func Add(rows, width int) (Program, error) {
	g := newGraph()
	return g.lower(g.Add(g.float(rows, width), g.float(rows, width)))
}

// Router is the choice of k experts by rows of logits.
func Router(rows, experts, k int) (Program, error) {
	g := newGraph()
	_, weights, _ := g.RouterTopK(g.single(rows, experts), k, false)
	return g.differentiated(weights)
}

// Experts are the MLPs of which each of rows tokens takes k, with random routing:
// sort, dispatch, products, gate and combination.
func Experts(rows, width, inner, experts, k int) (Program, error) {
	g := newGraph()
	r := g.ExpertSort(g.ints(experts, rows, k), experts)
	gu := g.GroupedMatMul(g.Dispatch(g.float(rows, width), r), g.float(experts, 2*inner, width), r)
	ys := g.GroupedMatMul(g.SwiGLU(gu), g.float(experts, width, inner), r)
	return g.differentiated(g.Combine(ys, g.single(rows, k), r))
}

// AdamW is the norm of a gradient of n elements and the step of the optimiser; narrow
// adds the copy of the weights for products.
func AdamW(n int, narrow bool) (Program, error) {
	g := newGraph()
	p, m, v, grad := g.single(n), g.single(n), g.single(n), g.float(n)
	var copied *G.Node
	if narrow {
		copied = g.float(n)
	}
	sumsq := g.SumSquares(grad)
	return g.lower(g.AdamW(p, m, v, grad, sumsq, g.single(4), copied, op.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1})...)
}

// Copy moves n elements of fp32.
func Copy(n int) (Program, error) {
	g := newGraph()
	return g.lower(g.Narrow(g.single(n), g.single(n)))
}
