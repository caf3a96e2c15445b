package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// Add is a + b, elementwise.
func (b *Builder) Add(x, y *G.Node) *G.Node {
	check(x.Shape().Eq(y.Shape()), "add %v and %v", x.Shape(), y.Shape())
	return b.apply(def{
		kernel: "add",
		outs:   []engine.Out{inPlace(act(x.Shape()...), 0, 1)},
		diff:   diff(2, 0, 1),
		cheap:  true,
		ref: func(in, out [][]float64) {
			for i := range out[0] {
				out[0][i] = in[0][i] + in[1][i]
			}
		},
		grad: func(_, _, dout []*G.Node) []*G.Node { return []*G.Node{dout[0], dout[0]} },
	}, x, y)[0]
}

// AddBias is x[T,N] + b[N] in every row.
func (b *Builder) AddBias(xTN, bN *G.Node) *G.Node {
	rows, n := xTN.Shape()[0], xTN.Shape()[1]
	check(bN.Shape().TotalSize() == n, "bias %v for %v", bN.Shape(), xTN.Shape())
	return b.apply(def{
		kernel: "add_bias",
		outs:   []engine.Out{inPlace(act(rows, n), 0)},
		diff:   diff(2, 0, 1),
		cheap:  true,
		ref: func(in, out [][]float64) {
			for i := range out[0] {
				out[0][i] = in[0][i] + in[1][i%n]
			}
		},
		grad: func(_, _, dout []*G.Node) []*G.Node { return []*G.Node{dout[0], b.columnSum(dout[0])} },
	}, xTN, bN)[0]
}

// columnSum is the sum over the rows of x[T,N].
func (b *Builder) columnSum(xTN *G.Node) *G.Node {
	n := xTN.Shape()[1]
	return b.apply(def{
		kernel: "column_sum",
		outs:   []engine.Out{act(n)},
		ref: func(in, out [][]float64) {
			for i, v := range in[0] {
				out[0][i%n] += v
			}
		},
	}, xTN)[0]
}
