package simd

// GradWorkLen is the number of floats of scratch memory that Backward needs.
func (a Attention) GradWorkLen() int {
	return 2*a.keysLen() + a.Length*a.paddedDim() + 2*attentionRows*(a.paddedDim()+a.scoreStride())
}

// Backward computes the gradient of one head of keys and values and of the query heads that read it: their
// columns of dqkv. out and lse are what Forward computed (lse[Heads, Length]), dout is the gradient of out; all
// are those of one sequence. With p the probabilities and g a row of dout,
//
//	dv_j = sum_i p_ij g_i,  ds_ij = p_ij (g_i v_j - g_i out_i),  dq_i = sum_j ds_ij k_j / sqrt(d),  dk_j alike.
func (a Attention) Backward(ws *Workspace, work, dqkv, qkv []float32, docs []int32, out, lse, dout []float32, kvHead int) {
	take := func(n int) []float32 {
		part := work[:n:n]
		work = work[n:]
		return part
	}
	b := attentionGrad{Attention: a, ws: ws, qkv: qkv, out: out, dout: dout, dqkv: dqkv, docs: docs, kvHead: kvHead,
		packedKeys: take(a.keysLen()), packedValues: take(a.keysLen()), keys: take(a.Length * a.paddedDim()),
		q: take(attentionRows * a.paddedDim()), g: take(attentionRows * a.paddedDim()),
		p: take(attentionRows * a.scoreStride()), ds: take(attentionRows * a.scoreStride())}
	b.prepare()
	for head := kvHead * a.group(); head < (kvHead+1)*a.group(); head++ {
		for block := range a.Blocks() {
			b.block(lse[head*a.Length:], head, block)
		}
	}
}

type attentionGrad struct {
	Attention
	ws     *Workspace
	kvHead int

	qkv, out, dout, dqkv []float32
	docs                 []int32

	packedKeys, packedValues []float32 // right-hand sides of the products over HeadDim
	keys                     []float32 // dense
	q, g                     []float32 // the block's queries, times factor, and its rows of dout, dense
	p, ds                    []float32 // probabilities, and gradients of the scores
}

// prepare brings the keys and values into order and clears their gradients.
func (b *attentionGrad) prepare() {
	k, v := b.key(b.kvHead), b.value(b.kvHead)
	g := b.scores(nil, b.qkv[k:], b.Length)
	g.Pack(b.packedKeys, 0, g.Panels())
	g = b.scores(nil, b.qkv[v:], b.Length)
	g.Pack(b.packedValues, 0, g.Panels())
	b.dense(b.keys, b.qkv[k:], 1)
	for i := range b.Length {
		clear(b.dqkv[i*b.width()+k:][:b.HeadDim])
		clear(b.dqkv[i*b.width()+v:][:b.HeadDim])
	}
}

func (b *attentionGrad) block(lse []float32, head, block int) {
	i0, i1 := b.rows(block)
	first, n, d := documentStart(b.docs, i0), i1-i0, b.paddedDim()
	q, g := b.q[:n*d], b.g[:n*d]
	b.dense(q, b.qkv[i0*b.width()+b.query(head):], b.factor())
	for i := i0; i < i1; i++ {
		copy(g[(i-i0)*d:][:b.HeadDim], b.dout[i*b.outWidth()+b.query(head):])
	}
	s := b.scores(q, b.qkv[b.key(b.kvHead):], n)
	s.C = b.p
	b.tile(b.ws, &s, b.packedKeys, first, i1)
	s = b.scores(g, b.qkv[b.value(b.kvHead):], n)
	s.C = b.ds
	b.tile(b.ws, &s, b.packedValues, first, i1)
	b.scoreGradients(lse, head, i0, i1, first)
	b.products(head, i0, i1, first)
}

// scoreGradients turns scores into probabilities in p, and gradients of probabilities into those of scores in ds.
func (b *attentionGrad) scoreGradients(lse []float32, head, i0, i1, first int) {
	ld, start := b.scoreStride(), first
	for i := i0; i < i1; i++ {
		start = nextStart(b.docs, start, i)
		o := b.out[i*b.outWidth()+b.query(head):][:b.HeadDim]
		mean := Dot(b.g[(i-i0)*b.paddedDim():][:b.HeadDim], o)
		p, ds := b.p[(i-i0)*ld:][:ld], b.ds[(i-i0)*ld:][:ld]
		vec().probGrad(p[start:i+1], ds[start:i+1], lse[i], mean)
		for _, row := range [][]float32{p, ds} {
			clear(row[first:start])
			clear(row[i+1 : i1])
		}
	}
}

// products adds the block's part to the gradients of keys and values, and computes that of its queries.
func (b *attentionGrad) products(head, i0, i1, first int) {
	n, keys, ld, w, d := i1-i0, i1-first, b.scoreStride(), b.width(), b.paddedDim()
	dv := Gemm{M: keys, N: b.HeadDim, K: n, Accumulate: true,
		A: Mat{Data: b.p[first:], Ld: ld, Trans: true}, B: Mat{Data: b.g, Ld: d},
		C: b.dqkv[first*w+b.value(b.kvHead):], LdC: w, InPlace: true}
	dv.Run(b.ws)
	dk := dv
	dk.A.Data, dk.B.Data, dk.C = b.ds[first:], b.q, b.dqkv[first*w+b.key(b.kvHead):]
	dk.Run(b.ws)
	dq := Gemm{M: n, N: b.HeadDim, K: keys, InPlace: true,
		A: Mat{Data: b.ds[first:], Ld: ld}, B: Mat{Data: b.keys[first*d:], Ld: d},
		C: b.dqkv[i0*w+b.query(head):], LdC: w}
	dq.Run(b.ws)
	for i := i0; i < i1; i++ {
		row := b.dqkv[i*w+b.query(head):][:b.HeadDim]
		Scale(row, row, b.factor())
	}
}
