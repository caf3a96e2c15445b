package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// Embedding looks up the rows ids[B,L] of table[V,H]: [T,H]. The row of token pad
// gets no gradient; -1 for none.
func (b *Builder) Embedding(tableVH, idsBL *G.Node, pad int) *G.Node {
	vocab, h := tableVH.Shape()[0], tableVH.Shape()[1]
	rows := idsBL.Shape().TotalSize()
	return b.apply(def{
		kernel: "embedding",
		outs:   []engine.Out{act(rows, h)},
		diff:   diff(2, 0),
		ref: func(in, out [][]float64) {
			for t, id := range in[1] {
				copy(out[0][t*h:(t+1)*h], in[0][int(id)*h:])
			}
		},
		grad: func(in, _, dout []*G.Node) []*G.Node {
			return []*G.Node{b.embeddingGrad(in[1], dout[0], vocab, h, pad), nil}
		},
	}, tableVH, idsBL)[0]
}

// embeddingGrad adds up the gradients of each token's occurrences.
func (b *Builder) embeddingGrad(idsBL, dyTH *G.Node, vocab, h, pad int) *G.Node {
	return b.apply(def{
		kernel: "embedding_grad",
		attrs:  engine.Attrs{num("pad", pad)},
		outs:   []engine.Out{act(vocab, h)},
		ref: func(in, out [][]float64) {
			for t, id := range in[0] {
				if int(id) == pad {
					continue
				}
				for c := 0; c < h; c++ {
					out[0][int(id)*h+c] += in[1][t*h+c]
				}
			}
		},
	}, idsBL, dyTH)[0]
}
