package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// GroupedMatMul multiplies the rows of each expert by its own weights:
// y[s] = x[s] w[e]^T for rows offsets[e] <= s < offsets[e+1] of x[S,K], with
// w[E,N,K]. How many rows an expert has is known only when the plan runs.
func (b *Builder) GroupedMatMul(xSK, wENK *G.Node, r Routing) *G.Node {
	rows, k := xSK.Shape()[0], xSK.Shape()[1]
	experts, n := wENK.Shape()[0], wENK.Shape()[1]
	check(wENK.Shape()[2] == k && r.Offsets.Shape()[0] == experts+1, "grouped_matmul of %v by %v", xSK.Shape(), wENK.Shape())
	g := groups{experts: experts, n: n, k: k}
	return b.apply(def{
		kernel: "grouped_matmul",
		outs:   []engine.Out{act(rows, n)},
		diff:   diff(3, 0, 1),
		ref: func(in, out [][]float64) {
			g.each(in[2], func(e, from, to int) {
				matmulRef(in[0][from*k:to*k], g.weights(in[1], e), out[0][from*n:to*n], to-from, n, k, false, true)
			})
		},
		grad: func(in, _, dout []*G.Node) []*G.Node {
			return []*G.Node{b.groupedDx(dout[0], in[1], in[2], g), b.groupedDw(dout[0], in[0], in[2], g), nil}
		},
	}, xSK, wENK, r.Offsets)[0]
}

// groupedDx is dx[s] = dy[s] w[e].
func (b *Builder) groupedDx(dySN, wENK, offsets *G.Node, g groups) *G.Node {
	rows := dySN.Shape()[0]
	return b.apply(def{
		kernel: "grouped_matmul_dx",
		outs:   []engine.Out{act(rows, g.k)},
		ref: func(in, out [][]float64) {
			g.each(in[2], func(e, from, to int) {
				matmulRef(in[0][from*g.n:to*g.n], g.weights(in[1], e), out[0][from*g.k:to*g.k], to-from, g.k, g.n, false, false)
			})
		},
	}, dySN, wENK, offsets)[0]
}

// groupedDw is dw[e] = sum over its rows of dy[s]^T x[s]; zero for an expert
// without rows.
func (b *Builder) groupedDw(dySN, xSK, offsets *G.Node, g groups) *G.Node {
	return b.apply(def{
		kernel: "grouped_matmul_dw",
		outs:   []engine.Out{act(g.experts, g.n, g.k)},
		ref: func(in, out [][]float64) {
			g.each(in[2], func(e, from, to int) {
				matmulRef(in[0][from*g.n:to*g.n], in[1][from*g.k:to*g.k], g.weights(out[0], e), g.n, g.k, to-from, true, false)
			})
		},
	}, dySN, xSK, offsets)[0]
}

type groups struct {
	experts, n, k int
}

func (g groups) each(offsets []float64, f func(e, from, to int)) {
	for e := 0; e < g.experts; e++ {
		f(e, int(offsets[e]), int(offsets[e+1]))
	}
}

func (g groups) weights(w []float64, e int) []float64 { return w[e*g.n*g.k : (e+1)*g.n*g.k] }
