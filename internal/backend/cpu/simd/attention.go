package simd

import "math"

// Attention is softmax(q k^T / sqrt(d)) v over the earlier positions of the same document, with fewer heads of
// keys and values than of queries: head h reads head h / (Heads / KVHeads). A row of qkv holds the queries of
// all heads, then the keys, then the values.
//
// The rows of scores of attentionRows queries are computed at a time, turned into probabilities, and multiplied
// by the values; nothing of size Length^2 is kept. The gradient computes them again from the log-sum-exp.
type Attention struct {
	Length, Heads, KVHeads, HeadDim int
}

// attentionRows is the number of queries in a block.
const attentionRows = 32

func (a Attention) width() int    { return (a.Heads + 2*a.KVHeads) * a.HeadDim }
func (a Attention) outWidth() int { return a.Heads * a.HeadDim }
func (a Attention) group() int    { return a.Heads / a.KVHeads }

// paddedDim is the width of a row of a dense copy of keys, values or queries: rows of whole vectors.
func (a Attention) paddedDim() int { return (a.HeadDim + 15) / 16 * 16 }

// scoreStride is the distance of two rows of scores. It is no multiple of 32 floats, so that rows fall into
// different sets of the cache.
func (a Attention) scoreStride() int { return (a.Length+31)/32*32 + 16 }

// Offsets of the parts of a head in a row of qkv.
func (a Attention) query(head int) int   { return head * a.HeadDim }
func (a Attention) key(kvHead int) int   { return (a.Heads + kvHead) * a.HeadDim }
func (a Attention) value(kvHead int) int { return (a.Heads + a.KVHeads + kvHead) * a.HeadDim }
func (a Attention) kvHead(head int) int  { return head / a.group() }
func (a Attention) rows(block int) (i0, i1 int) {
	return block * attentionRows, min((block+1)*attentionRows, a.Length)
}

// Blocks is the number of blocks of queries of a sequence.
func (a Attention) Blocks() int { return (a.Length + attentionRows - 1) / attentionRows }

// AttentionKV is the memory for the keys and values of one sequence and head in the order that Forward reads
// them.
type AttentionKV struct {
	keys, values []float32
}

// KVLen is the number of floats that NewKV needs.
func (a Attention) KVLen() int { return a.keysLen() + a.Length*a.paddedDim() }

func (a Attention) keysLen() int {
	g := a.scores(nil, nil, a.Length)
	return g.PackedLen(0, g.Panels())
}

// NewKV uses mem, of KVLen floats.
func (a Attention) NewKV(mem []float32) AttentionKV {
	n := a.keysLen()
	return AttentionKV{keys: mem[:n], values: mem[n:a.KVLen()]}
}

// Pack fills kv from the sequence's rows of qkv.
func (a Attention) Pack(kv AttentionKV, qkv []float32, kvHead int) {
	g := a.scores(nil, qkv[a.key(kvHead):], a.Length)
	g.Pack(kv.keys, 0, g.Panels())
	a.dense(kv.values, qkv[a.value(kvHead):], 1)
}

// dense copies the rows of one head from rows of qkv, times factor.
func (a Attention) dense(dst, src []float32, factor float32) {
	for i := 0; i < len(dst)/a.paddedDim(); i++ {
		Scale(dst[i*a.paddedDim():][:a.HeadDim], src[i*a.width():], factor)
	}
}

// scores is the product of rows queries, dense in q, and the transpose of all keys (or values).
func (a Attention) scores(q, keys []float32, rows int) Gemm {
	return Gemm{M: rows, N: a.Length, K: a.HeadDim,
		A: Mat{Data: q, Ld: a.paddedDim()}, B: Mat{Data: keys, Ld: a.width(), Trans: true}, LdC: a.scoreStride()}
}

// WorkLen is the number of floats of scratch memory that Forward needs.
func (a Attention) WorkLen() int { return attentionRows * (a.paddedDim() + a.scoreStride()) }

// Forward computes the block of queries of one head: its rows of out[Length, Heads*HeadDim] and lse[Length], the
// log-sum-exp of each query's scores. qkv, docs and out are those of one sequence.
func (a Attention) Forward(ws *Workspace, work, out, lse, qkv []float32, docs []int32, kv AttentionKV, head, block int) {
	i0, i1 := a.rows(block)
	first := documentStart(docs, i0)
	q := work[:(i1-i0)*a.paddedDim()]
	s := work[attentionRows*a.paddedDim():]
	a.dense(q, qkv[i0*a.width()+a.query(head):], a.factor())
	g := a.scores(q, qkv[a.key(a.kvHead(head)):], i1-i0)
	g.C = s
	a.tile(ws, &g, kv.keys, first, i1)
	start := first
	for i := i0; i < i1; i++ {
		start = nextStart(docs, start, i)
		row := s[(i-i0)*g.LdC:][:g.LdC]
		lse[i] = softmax(row[start : i+1])
		clear(row[first:start])
		clear(row[i+1 : i1])
	}
	o := Gemm{M: i1 - i0, N: a.HeadDim, K: i1 - first, InPlace: true,
		A: Mat{Data: s[first:], Ld: g.LdC}, B: Mat{Data: kv.values[first*a.paddedDim():], Ld: a.paddedDim()},
		C: out[i0*a.outWidth()+a.query(head):], LdC: a.outWidth()}
	o.Tile(ws, nil, 0, 0, o.M, 0, o.Panels())
}

func (a Attention) factor() float32 { return float32(1 / math.Sqrt(float64(a.HeadDim))) }

// tile computes the columns [first, end) of a product with all keys, and perhaps some around them.
func (a Attention) tile(ws *Workspace, g *Gemm, packed []float32, first, end int) {
	w, last := PanelColumns(), g.Panels()-1
	g.Tile(ws, packed, 0, 0, g.M, min(first/w, last), min((end-1)/w, last)+1)
}

// softmax turns scores into probabilities and returns their log-sum-exp.
func softmax(x []float32) float32 {
	top := Max(x)
	sum := vec().expTo(x, top)
	Scale(x, x, 1/sum)
	return top + float32(math.Log(float64(sum)))
}

// documentStart is the first position of the document that position i belongs to.
func documentStart(docs []int32, i int) int {
	for i > 0 && docs[i-1] == docs[i] {
		i--
	}
	return i
}

// nextStart is documentStart(docs, i), given that of an earlier position, or of i-1.
func nextStart(docs []int32, start, i int) int {
	if docs[start] != docs[i] {
		return i
	}
	return start
}
