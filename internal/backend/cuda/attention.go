package cuda

import (
	"fmt"
	"math"

	"jambalaya/internal/engine"
)

func init() {
	register("attention", attention)
	register("attention_grad", attentionGrad)
	register("attention_cached", attentionCached)
	register("rope", rope)
}

// heads is the geometry of an attention operator.
type heads struct {
	batch, length, heads, kv, dim int
	tile                          int
}

func newHeads(a *args) heads {
	h := heads{batch: a.Attrs.Int("batch"), length: a.Attrs.Int("length"), heads: a.Attrs.Int("heads"), kv: a.Attrs.Int("kv_heads"),
		dim: a.Attrs.Int("head_dim"), tile: 64}
	if h.dim > 128 { // four tiles of rows have to fit into shared memory
		h.tile = 32
	}
	if h.dim > 256 {
		a.fail(fmt.Errorf("cuda: heads of %d dimensions are not supported: at most 256", h.dim))
	}
	return h
}

func (h heads) scale() float32 { return float32(1 / math.Sqrt(float64(h.dim))) }

// params is StructHeads of attention.cu.
func (h heads) params() []byte { return structure(h.length, h.heads, h.kv, h.scale()) }

// grid cuts the length into tiles for each of n heads; shared memory holds rows of
// heads and matrices of scores.
func (h heads) grid(n, rows, scores int) grid {
	return grid{x: blocks(h.length, h.tile), y: n, z: h.batch, threads: blockThreads,
		shared: 4 * h.tile * (rows*(h.dim+1) + scores*(h.tile+1))}
}

func (h heads) file(a *args, qkv, out, dout, dqkv *engine.Tensor) file {
	return a.file("attention", constant("D", h.dim), constant("T", h.tile), typed("QKV", qkv), typed("OUT", out), typed("DOUT", dout), typed("DQKV", dqkv))
}

// starts finds the first position of each position's document, and clears two
// counters of tiles at `next`, where it is not 0.
func (h heads) starts(a *args, docs *engine.Tensor, next address) address {
	starts := a.scratch(h.batch * h.length)
	a.file("documents").launch("document_starts", grid{x: h.batch, threads: 1024}, starts, next, docs, h.length)
	return starts
}

// tensorCores says whether the kernels of attention_bf16.cu can do it: everything
// in bf16, in lines of whole pieces of 16 bytes.
func (h heads) tensorCores(ts ...*engine.Tensor) bool {
	for _, t := range ts {
		if t != nil && (t.DType != engine.BFloat16 || t.Off%16 != 0) {
			return false
		}
	}
	return h.dim%16 == 0 && h.dim <= 128
}

// Lines of a block's own tile, and of a tile of the other side in the gradients, in
// attention_bf16.cu.
const (
	coreRows = 64
	coreTile = 32
)

// coreGrid is grid for attention_bf16.cu: lines of heads and floats in shared memory.
func (h heads) coreGrid(n, lines, floats int) grid {
	return grid{x: blocks(h.length, coreRows), y: n, z: h.batch, threads: 128, shared: 2*lines*(h.dim+8) + 4*floats}
}

func attention(a *args) {
	h := newHeads(a)
	qkv, out := a.In[0], a.out(0)
	if h.hopper(a, qkv, out) {
		h.forwardHopper(a)
		return
	}
	starts := h.starts(a, a.In[1], 0)
	if h.tensorCores(qkv, out) {
		a.file("attention_bf16", constant("D", h.dim)).
			launch("attention", h.coreGrid(h.heads, 4*coreRows, 0), out, a.out(1), qkv, starts, h.params())
		return
	}
	h.file(a, qkv, out, nil, nil).launch("attention", h.grid(h.heads, 3, 1), out, a.out(1), qkv, starts, h.params())
}

func attentionGrad(a *args) {
	h := newHeads(a)
	qkv, out, lse, dout, dqkv := a.In[0], a.In[2], a.In[3], a.In[4], a.out(0)
	if h.hopper(a, qkv, out, dout, dqkv) {
		h.gradHopper(a)
		return
	}
	starts, dots := h.starts(a, a.In[1], 0), a.scratch(h.batch*h.heads*h.length)
	a.file("attention_dots", constant("D", h.dim), typed("OUT", out), typed("DOUT", dout)).
		launch("attention_dots", warpRows(h.batch*h.length*h.heads), dots, out, dout, h.batch, h.length, h.heads)
	var f file
	var g, gkv grid
	if h.tensorCores(qkv, dout, dqkv) {
		f = a.file("attention_bf16", constant("D", h.dim))
		g, gkv = h.coreGrid(h.heads, 2*coreRows+4*coreTile, 0), h.coreGrid(h.kv, 2*coreRows+4*coreTile, 6*coreTile)
	} else {
		f = h.file(a, qkv, out, dout, dqkv)
		g, gkv = h.grid(h.heads, 4, 1), h.grid(h.kv, 4, 2)
	}
	f.launch("attention_grad_q", g, dqkv, qkv, dout, lse, dots, starts, h.params())
	f.launch("attention_grad_kv", gkv, dqkv, qkv, dout, lse, dots, starts, h.params())
}

func attentionCached(a *args) {
	h := newHeads(a)
	qkv, keys, values, pos, out := a.In[0], a.In[1], a.In[2], a.In[3], a.out(0)
	params := structure(h.length, h.heads, h.kv, a.Attrs.Int("capacity"), h.scale())
	f := a.file("attention_cached", constant("D", h.dim), typed("QKV", qkv), typed("CACHE", keys), typed("OUT", out))
	f.launch("cache_store", grid{x: h.length, y: h.batch, threads: threadsFor(h.kv*h.dim, blockThreads)}, keys, values, a.faults(), qkv, pos, params)
	if out != nil {
		f.launch("attention_cached", grid{x: h.length, y: h.heads, z: h.batch, threads: blockThreads}, out, qkv, keys, values, pos, params)
	}
}

func rope(a *args) {
	h := newHeads(a)
	theta, sign := a.Attrs.Float("theta"), float32(1)
	if a.Attrs.Bool("inverse") {
		sign = -1
	}
	x, docs, pos, y := a.in(true), a.in(true), a.in(a.Attrs.Bool("offset")), a.out(0)
	starts := h.starts(a, docs, 0)
	pairs := h.dim / 2
	var frequencies []any
	for i := range pairs {
		frequencies = append(frequencies, math.Pow(theta, -2*float64(i)/float64(h.dim)))
	}
	rows := h.batch * h.length
	a.file("rope", constant("PAIRS", pairs), typed("X", x), typed("Y", y)).launch("rope", overRows(rows, pairs), y, x, starts, pos,
		structure(frequencies...), rows, h.length, h.heads+h.kv, h.kv*h.dim, sign)
}
