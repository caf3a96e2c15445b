package cpu

import (
	"fmt"

	"jambalaya/internal/backend/cpu/simd"
	"jambalaya/internal/engine"
)

func init() {
	register("attention", sized(attention))
	register("attention_grad", sized(attentionGrad))
	register("attention_cached", sized(attentionCached))
}

// heads is the geometry of an attention kernel.
type heads struct {
	simd.Attention
	batch int
	qkv   int // width of a row of qkv
	out   int // width of a row of the result
}

func newHeads(attrs engine.Attrs) heads {
	a := simd.Attention{Length: attrs.Int("length"), Heads: attrs.Int("heads"), KVHeads: attrs.Int("kv_heads"),
		HeadDim: attrs.Int("head_dim")}
	return heads{Attention: a, batch: attrs.Int("batch"), qkv: (a.Heads + 2*a.KVHeads) * a.HeadDim, out: a.Heads * a.HeadDim}
}

// row returns sequence i of an array with the given elements a position.
func row[T any](x []T, i, length, width int) []T {
	return x[i*length*width : (i+1)*length*width]
}

// attention packs the keys and values of each sequence and head, then computes blocks of queries.
func attention(b *Backend, a *args) func() error {
	h := newHeads(a.Attrs)
	qkv, docs := a.in(true), a.ints()
	out := a.out(0)
	lse := a.outOrScratch(1, h.batch*h.Heads*h.Length)
	kv := a.scratch(h.batch * h.KVHeads * h.KVLen())
	work := a.perWorker(b, h.WorkLen())
	keyValues := func(i int) simd.AttentionKV { return h.NewKV(kv[i*h.KVLen() : (i+1)*h.KVLen()]) }
	pack := func(task, _ int) {
		h.Pack(keyValues(task), row(qkv, task/h.KVHeads, h.Length, h.qkv), task%h.KVHeads)
	}
	forward := func(task, worker int) {
		seq, head, block := task/h.Blocks()/h.Heads, task/h.Blocks()%h.Heads, task%h.Blocks()
		h.Forward(&b.work[worker], work[worker], row(out, seq, h.Length, h.out), lse[(seq*h.Heads+head)*h.Length:][:h.Length],
			row(qkv, seq, h.Length, h.qkv), row(docs, seq, h.Length, 1), keyValues(seq*h.KVHeads+head*h.KVHeads/h.Heads), head, block)
	}
	return step(func() {
		b.pool.Run(h.batch*h.KVHeads, pack)
		b.pool.Run(h.batch*h.Heads*h.Blocks(), forward)
	})
}

// attentionGrad has a task for each sequence and head of keys, whose gradient it sums in a fixed order.
func attentionGrad(b *Backend, a *args) func() error {
	h := newHeads(a.Attrs)
	qkv, docs, out, lse, dout := a.in(true), a.ints(), a.in(true), a.in(true), a.in(true)
	dqkv := a.out(0)
	work := a.perWorker(b, h.GradWorkLen())
	backward := func(task, worker int) {
		seq, kvHead := task/h.KVHeads, task%h.KVHeads
		h.Backward(&b.work[worker], work[worker], row(dqkv, seq, h.Length, h.qkv), row(qkv, seq, h.Length, h.qkv),
			row(docs, seq, h.Length, 1), row(out, seq, h.Length, h.out), row(lse, seq, h.Length, h.Heads),
			row(dout, seq, h.Length, h.out), kvHead)
	}
	return step(func() { b.pool.Run(h.batch*h.KVHeads, backward) })
}

// attentionCached stores the new keys and values, then computes blocks of queries over the cache.
func attentionCached(b *Backend, a *args) func() error {
	h, capacity := newHeads(a.Attrs), a.Attrs.Int("capacity")
	width := h.KVHeads * h.HeadDim
	qkv, keys, values, pos := a.in(true), a.in(true), a.in(true), a.ints()
	out := a.out(0)
	work := a.perWorker(b, h.CachedWorkLen(capacity))
	cache := func(seq int) simd.AttentionCache {
		return simd.AttentionCache{Keys: row(keys, seq, capacity, width), Values: row(values, seq, capacity, width)}
	}
	store := func(seq, _ int) { h.Store(cache(seq), row(qkv, seq, h.Length, h.qkv), int(pos[0])) }
	attend := func(task, worker int) {
		seq, head, block := task/h.Blocks()/h.Heads, task/h.Blocks()%h.Heads, task%h.Blocks()
		h.Cached(&b.work[worker], work[worker], row(out, seq, h.Length, h.out), row(qkv, seq, h.Length, h.qkv),
			cache(seq), int(pos[0]), head, block)
	}
	return func() error {
		if at := int(pos[0]); at < 0 || at+h.Length > capacity {
			return fmt.Errorf("cpu: attention_cached: positions %d to %d outside a cache of %d; generate fewer tokens or enlarge the cache",
				at, at+h.Length-1, capacity)
		}
		b.pool.Run(h.batch, store)
		b.pool.Run(h.batch*h.Heads*h.Blocks(), attend)
		return nil
	}
}
