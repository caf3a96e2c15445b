package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// Heads is the geometry of grouped-query attention: query head i reads key and
// value head i / (Heads / KVHeads).
type Heads struct {
	Heads, KVHeads, HeadDim int
}

// Width is the size of a row that packs queries, keys and values.
func (h Heads) Width() int { return (h.Heads + 2*h.KVHeads) * h.HeadDim }

func (h Heads) attrs(batch, length int) engine.Attrs {
	return engine.Attrs{num("batch", batch), num("length", length), num("heads", h.Heads),
		num("kv_heads", h.KVHeads), num("head_dim", h.HeadDim)}
}

// Attention is softmax(q k^T / sqrt(d)) v over the earlier positions of the same
// document, without any encoding of positions (Jamba, arXiv 2403.19887, sect. 3).
// qkv is [T, (heads + 2 kvHeads) d]; docs[B,L]; the result is [T, heads*d]. The
// log-sum-exp of each row is kept for the gradient, the scores are not.
func (b *Builder) Attention(qkv, docsBL *G.Node, h Heads) *G.Node {
	batch, length := docsBL.Shape()[0], docsBL.Shape()[1]
	rows := batch * length
	check(qkv.Shape()[0] == rows && qkv.Shape()[1] == h.Width(), "attention of %v with %+v", qkv.Shape(), h)
	ref := attentionRef{Heads: h, batch: batch, length: length}
	return b.apply(def{
		kernel: "attention",
		attrs:  h.attrs(batch, length),
		outs:   []engine.Out{kept(act(rows, h.Heads*h.HeadDim)), kept(f32(batch, h.Heads, length))},
		diff:   diff(2, 0),
		ref:    func(in, out [][]float64) { ref.forward(in[0], in[1], out[0], out[1]) },
		grad: func(in, out, dout []*G.Node) []*G.Node {
			dqkv := b.apply(def{
				kernel: "attention_grad",
				attrs:  h.attrs(batch, length),
				outs:   []engine.Out{act(rows, h.Width())},
				ref:    func(in, out [][]float64) { ref.backward(in[0], in[1], in[4], out[0]) },
			}, in[0], in[1], out[0], out[1], dout[0])[0]
			return []*G.Node{dqkv, nil}
		},
	}, qkv, docsBL)[0]
}

type attentionRef struct {
	Heads
	batch, length int
}

// each calls f for every query row and head with the row's probabilities p over
// positions [first, t], its query offset, and functions for the offsets of the
// key and the value of a position.
func (a attentionRef) each(qkv, docs []float64, f func(row, head int, p []float64, lse float64, q int, k, v func(i int) int)) {
	w, d := a.Width(), a.HeadDim
	for bat := 0; bat < a.batch; bat++ {
		for t := 0; t < a.length; t++ {
			row := bat*a.length + t
			first := t
			for first > 0 && docs[bat*a.length+first-1] == docs[row] {
				first--
			}
			for head := 0; head < a.Heads.Heads; head++ {
				kv := head / (a.Heads.Heads / a.KVHeads)
				key := func(i int) int { return (bat*a.length+first+i)*w + (a.Heads.Heads+kv)*d }
				value := func(i int) int { return (bat*a.length+first+i)*w + (a.Heads.Heads+a.KVHeads+kv)*d }
				q := row*w + head*d
				p, lse := softmaxScores(qkv, q, key, d, t-first+1)
				f(row, head, p, lse, q, key, value)
			}
		}
	}
}

// softmaxScores returns the probabilities over n keys and their log-sum-exp.
func softmaxScores(qkv []float64, q int, key func(int) int, d, n int) (p []float64, lse float64) {
	p = make([]float64, n)
	top := math.Inf(-1)
	for i := range p {
		k := key(i)
		for c := 0; c < d; c++ {
			p[i] += qkv[q+c] * qkv[k+c]
		}
		p[i] /= math.Sqrt(float64(d))
		top = max(top, p[i])
	}
	sum := 0.0
	for i := range p {
		p[i] = math.Exp(p[i] - top)
		sum += p[i]
	}
	for i := range p {
		p[i] /= sum
	}
	return p, top + math.Log(sum)
}

func (a attentionRef) forward(qkv, docs, out, lse []float64) {
	d := a.HeadDim
	a.each(qkv, docs, func(row, head int, p []float64, l float64, _ int, _, v func(int) int) {
		bat, t := row/a.length, row%a.length
		lse[(bat*a.Heads.Heads+head)*a.length+t] = l
		o := out[(row*a.Heads.Heads+head)*d:][:d]
		for i, pi := range p {
			for c := range o {
				o[c] += pi * qkv[v(i)+c]
			}
		}
	})
}

// backward: with dp_i = dout . v_i, the score's gradient is
// ds_i = p_i (dp_i - sum_j p_j dp_j) / sqrt(d).
func (a attentionRef) backward(qkv, docs, dout, dqkv []float64) {
	d := a.HeadDim
	a.each(qkv, docs, func(row, head int, p []float64, _ float64, q int, k, v func(int) int) {
		g := dout[(row*a.Heads.Heads+head)*d:][:d]
		dp, mean := make([]float64, len(p)), 0.0
		for i := range p {
			for c := range g {
				dp[i] += g[c] * qkv[v(i)+c]
				dqkv[v(i)+c] += p[i] * g[c]
			}
			mean += p[i] * dp[i]
		}
		for i := range p {
			ds := p[i] * (dp[i] - mean) / math.Sqrt(float64(d))
			for c := range g {
				dqkv[q+c] += ds * qkv[k(i)+c]
				dqkv[k(i)+c] += ds * qkv[q+c]
			}
		}
	})
}
