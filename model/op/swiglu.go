package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// SwiGLU is y[rows,I] = silu(gate) * up of gu[rows,2I], whose rows hold gate,
// then up (Shazeer 2020, arXiv 2002.05202, eq. 6).
func (b *Builder) SwiGLU(gu *G.Node) *G.Node {
	rows, n := gu.Shape()[0], gu.Shape()[1]/2
	check(gu.Shape()[1] == 2*n, "swiglu of an odd width: %v", gu.Shape())
	return b.apply(def{
		kernel: "swiglu",
		outs:   []engine.Out{act(rows, n)},
		diff:   diff(1, 0),
		cheap:  true,
		ref: func(in, out [][]float64) {
			for r := 0; r < rows; r++ {
				for i := 0; i < n; i++ {
					gate, up := in[0][r*2*n+i], in[0][r*2*n+n+i]
					out[0][r*n+i] = gate * sigmoid(gate) * up
				}
			}
		},
		grad: func(in, _, dout []*G.Node) []*G.Node { return []*G.Node{b.swigluGrad(in[0], dout[0], rows, n)} },
	}, gu)[0]
}

// swigluGrad: dgate = dy up silu'(gate), dup = dy silu(gate).
func (b *Builder) swigluGrad(gu, dy *G.Node, rows, n int) *G.Node {
	return b.apply(def{
		kernel: "swiglu_grad",
		outs:   []engine.Out{inPlace(act(rows, 2*n), 0)},
		ref: func(in, out [][]float64) {
			for r := 0; r < rows; r++ {
				for i := 0; i < n; i++ {
					gate, up, d := in[0][r*2*n+i], in[0][r*2*n+n+i], in[1][r*n+i]
					out[0][r*2*n+i] = d * up * siluGrad(gate)
					out[0][r*2*n+n+i] = d * gate * sigmoid(gate)
				}
			}
		},
	}, gu, dy)[0]
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func silu(x float64) float64 { return x * sigmoid(x) }

func siluGrad(x float64) float64 {
	s := sigmoid(x)
	return s * (1 + x*(1-s))
}
