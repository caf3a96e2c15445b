package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// Capacity is the most assignments that an expert takes of a sequence of length tokens of
// which each chooses k of e experts: factor times its share at balance, rounded up
// (Switch Transformer, arXiv 2101.03961, eq. 3).
func Capacity(factor float64, length, k, e int) int {
	most := factor * float64(length) * float64(k) / float64(e)
	return int(min(math.Ceil(most), float64(length))) // a token chooses an expert once
}

// ExpertCapacity drops the assignments of each sequence that come to an expert after it
// has capacity of them: limited is weights[T,K] with 0 where index[T,K] was dropped, and
// drops[B,E] counts them. First choices come before second ones, and those before third;
// among equals the earlier position comes first. Padding (docs[B,L] < 0) takes no
// capacity and keeps its weights.
//
// Linear in the weights, it is its own gradient.
func (b *Builder) ExpertCapacity(weightsTK, indexTK, docsBL *G.Node, experts, capacity int) (limitedTK, dropsBE *G.Node) {
	c := capacityRef{batch: docsBL.Shape()[0], length: docsBL.Shape()[1], k: indexTK.Shape()[1], experts: experts, capacity: capacity}
	rows := c.batch * c.length
	check(indexTK.Shape()[0] == rows && weightsTK.Shape()[0] == rows, "choices of %d tokens, not %d", indexTK.Shape()[0], rows)
	outs := b.apply(def{
		kernel: "expert_capacity",
		attrs:  engine.Attrs{num("batch", c.batch), num("length", c.length), num("experts", experts), num("capacity", capacity)},
		outs:   []engine.Out{kept(f32(rows, c.k)), kept(f32(c.batch, experts))},
		diff:   diff(3, 0),
		ref:    c.run,
		grad: func(in, _, dout []*G.Node) []*G.Node {
			dweights, _ := b.ExpertCapacity(dout[0], in[1], in[2], experts, capacity)
			return []*G.Node{dweights, nil, nil}
		},
	}, weightsTK, indexTK, docsBL)
	return outs[0], outs[1]
}

// capacityRef is the definition in float64.
type capacityRef struct{ batch, length, k, experts, capacity int }

func (c capacityRef) run(in, out [][]float64) {
	weights, index, docs := in[0], in[1], in[2]
	limited, drops := out[0], out[1]
	copy(limited, weights)
	for b := range c.batch {
		taken := make([]int, c.experts)
		for j := range c.k {
			for t := b * c.length; t < (b+1)*c.length; t++ {
				if docs[t] < 0 {
					continue
				}
				e := int(index[t*c.k+j])
				if taken[e]++; taken[e] > c.capacity {
					limited[t*c.k+j] = 0
					drops[b*c.experts+e]++
				}
			}
		}
	}
}
