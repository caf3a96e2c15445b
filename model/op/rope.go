package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// Rope rotates the queries and keys of qkv [T, (heads+2 kvHeads) d] by their
// position (Su et al. 2021, arXiv 2104.09864, eq. 34, in the rotate-half form of
// Llama): the pair (i, i+d/2) turns by position * theta^(-2i/d). Positions restart
// with each document; pos[1], an int32 that may be nil, is added to those of the
// row's first document.
func (b *Builder) Rope(qkv, docsBL, pos *G.Node, h Heads, theta float64) *G.Node {
	batch, length := docsBL.Shape()[0], docsBL.Shape()[1]
	check(h.HeadDim%2 == 0 && qkv.Shape()[0] == batch*length && qkv.Shape()[1] == h.Width(), "rope of %v with %+v", qkv.Shape(), h)
	return b.rope(qkv, docsBL, pos, h, theta, false)
}

func (b *Builder) rope(qkv, docsBL, pos *G.Node, h Heads, theta float64, inverse bool) *G.Node {
	batch, length := docsBL.Shape()[0], docsBL.Shape()[1]
	in := []*G.Node{qkv, docsBL}
	if pos != nil {
		in = append(in, pos)
	}
	return b.apply(def{
		kernel: "rope",
		attrs:  append(h.attrs(batch, length), num("theta", theta), flag("inverse", inverse), flag("offset", pos != nil)),
		outs:   []engine.Out{inPlace(act(batch*length, h.Width()), 0)},
		diff:   diff(len(in), 0),
		cheap:  true,
		ref: func(in, out [][]float64) {
			copy(out[0], in[0])
			for row := 0; row < batch; row++ {
				first, at := 0, 0.0
				for t := 0; t < length; t++ {
					i := row*length + t
					if t > 0 && in[1][i] != in[1][i-1] {
						first = t
					}
					if at = float64(t - first); pos != nil && first == 0 {
						at += in[2][0]
					}
					if inverse {
						at = -at
					}
					ropeRow(out[0][i*h.Width():], h, at, theta)
				}
			}
		},
		grad: func(in, _, dout []*G.Node) []*G.Node {
			grads := make([]*G.Node, len(in))
			grads[0] = b.rope(dout[0], docsBL, pos, h, theta, !inverse)
			return grads
		},
	}, in...)[0]
}

func ropeRow(row []float64, h Heads, at, theta float64) {
	half := h.HeadDim / 2
	for head := 0; head < h.Heads+h.KVHeads; head++ {
		x := row[head*h.HeadDim:][:h.HeadDim]
		for i := 0; i < half; i++ {
			sin, cos := math.Sincos(at * math.Pow(theta, -2*float64(i)/float64(h.HeadDim)))
			x[i], x[half+i] = x[i]*cos-x[half+i]*sin, x[half+i]*cos+x[i]*sin
		}
	}
}
