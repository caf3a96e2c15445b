package simd

// AttentionCache holds the keys and values of one sequence, [capacity, KVHeads*HeadDim] each.
type AttentionCache struct {
	Keys, Values []float32
}

// Store appends the Length rows of qkv to the cache, as positions pos, pos+1, ...
func (a Attention) Store(c AttentionCache, qkv []float32, pos int) {
	w := a.KVHeads * a.HeadDim
	for i := range a.Length {
		row := qkv[i*a.width():]
		copy(c.Keys[(pos+i)*w:][:w], row[a.key(0):])
		copy(c.Values[(pos+i)*w:][:w], row[a.value(0):])
	}
}

// CachedWorkLen is the number of floats of scratch memory that Cached needs for a cache of the given capacity.
func (a Attention) CachedWorkLen(capacity int) int {
	return attentionRows * (a.paddedDim() + Attention{Length: capacity}.scoreStride())
}

// Cached computes a block of queries of one head over a cache that Store has filled: query i reads the cache up
// to position pos+i. The cache is one document.
func (a Attention) Cached(ws *Workspace, work, out, qkv []float32, c AttentionCache, pos, head, block int) {
	i0, i1 := a.rows(block)
	end, w := pos+i1, a.KVHeads*a.HeadDim
	q := work[:(i1-i0)*a.paddedDim()]
	s := work[attentionRows*a.paddedDim():]
	a.dense(q, qkv[i0*a.width()+a.query(head):], a.factor())
	g := Gemm{M: i1 - i0, N: end, K: a.HeadDim, A: Mat{Data: q, Ld: a.paddedDim()},
		B: Mat{Data: c.Keys[a.kvHead(head)*a.HeadDim:], Ld: w, Trans: true},
		C: s, LdC: Attention{Length: end}.scoreStride()}
	g.Run(ws)
	for i := i0; i < i1; i++ {
		row := s[(i-i0)*g.LdC:][:end]
		softmax(row[:pos+i+1])
		clear(row[pos+i+1:])
	}
	o := Gemm{M: i1 - i0, N: a.HeadDim, K: end, A: Mat{Data: s, Ld: g.LdC},
		B: Mat{Data: c.Values[a.kvHead(head)*a.HeadDim:], Ld: w},
		C: out[i0*a.outWidth()+a.query(head):], LdC: a.outWidth()}
	o.Run(ws)
}
