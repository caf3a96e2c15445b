package op

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// CachedAttention is attention for generation: the rows of qkv are positions
// pos, pos+1, ... of one document a batch row; their keys and values are written
// into the caches [B, capacity, kvHeads*d], which are updated in place, and each
// query reads the cache up to its own position. pos[1] is an int32 input, so that
// one plan serves every position. It has no gradient.
func (b *Builder) CachedAttention(qkv, keys, values, pos *G.Node, h Heads) (out, newKeys, newValues *G.Node) {
	batch, capacity := keys.Shape()[0], keys.Shape()[1]
	length := qkv.Shape()[0] / batch
	check(qkv.Shape()[1] == h.Width() && keys.Shape()[2] == h.KVHeads*h.HeadDim && keys.Shape().Eq(values.Shape()),
		"cached attention of %v with caches %v, %v and %+v", qkv.Shape(), keys.Shape(), values.Shape(), h)
	cache := func(input int) engine.Out {
		o := act(keys.Shape()...)
		o.Updates = input + 1
		return o
	}
	outs := b.apply(def{
		kernel: "attention_cached",
		attrs:  append(h.attrs(batch, length), num("capacity", capacity)),
		outs:   []engine.Out{act(batch*length, h.Heads*h.HeadDim), cache(1), cache(2)},
		ref: func(in, out [][]float64) {
			cachedAttentionRef(h, batch, length, capacity, in, out)
		},
	}, qkv, keys, values, pos)
	return outs[0], outs[1], outs[2]
}

func cachedAttentionRef(h Heads, batch, length, capacity int, in, out [][]float64) {
	qkv, pos := in[0], int(in[3][0])
	if pos < 0 || pos+length > capacity {
		panic(fmt.Sprintf("op: positions %d..%d outside a cache of %d", pos, pos+length-1, capacity))
	}
	d, w, kw := h.HeadDim, h.Width(), h.KVHeads*h.HeadDim
	copy(out[1], in[1])
	copy(out[2], in[2])
	for row := 0; row < batch*length; row++ {
		bat, at := row/length, pos+row%length
		k := qkv[row*w+h.Heads*d:][:kw]
		v := qkv[row*w+h.Heads*d+kw:][:kw]
		copy(out[1][(bat*capacity+at)*kw:], k)
		copy(out[2][(bat*capacity+at)*kw:], v)
		for head := 0; head < h.Heads; head++ {
			kv := head / (h.Heads / h.KVHeads)
			offset := func(i int) int { return (bat*capacity+i)*kw + kv*d }
			scores := append(append([]float64(nil), qkv[row*w+head*d:][:d]...), out[1]...)
			p, _ := softmaxScores(scores, 0, func(i int) int { return d + offset(i) }, d, at+1)
			o := out[0][(row*h.Heads+head)*d:][:d]
			for i, pi := range p {
				for c := range o {
					o[c] += pi * out[2][offset(i)+c]
				}
			}
		}
	}
}
