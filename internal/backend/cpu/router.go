package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() {
	register("router_topk", sized(routerTopK))
	register("router_topk_grad", sized(routerTopKGrad))
	register("router_aux", sized(routerAux))
	register("router_aux_grad", sized(routerAuxGrad))
}

func routerTopK(b *Backend, a *args) func() error {
	rows, e := a.In[0].Dim(0), a.In[0].Dim(1)
	k, renormalise := a.Attrs.Int("k"), a.Attrs.Bool("renormalise")
	logits := a.in(true)
	probs, weights, index := a.outOrScratch(0, rows*e), a.outOrScratch(1, rows*k), a.outInts(2, rows*k)
	work := a.perWorker(b, simd.RouterWork(e))
	return step(b.overRows(rows, 4*e, func(lo, hi, worker int) {
		simd.RouterTopK(probs[lo*e:hi*e], weights[lo*k:hi*k], index[lo*k:hi*k], logits[lo*e:hi*e], work[worker], e, k, renormalise)
	}))
}

func routerTopKGrad(b *Backend, a *args) func() error {
	rows, e := a.In[0].Dim(0), a.In[0].Dim(1)
	k, renormalise := a.Attrs.Int("k"), a.Attrs.Bool("renormalise")
	probs, weights, index := a.in(true), a.in(true), a.ints()
	dprobs, dweights := a.in(a.Attrs.Bool("has_dprobs")), a.in(a.Attrs.Bool("has_dweights"))
	dlogits := a.out(0)
	var work []float32
	if renormalise {
		work = a.scratch(rows * k)
	}
	return step(b.overRows(rows, 4*e, func(lo, hi, _ int) {
		simd.RouterTopKGrad(dlogits[lo*e:hi*e], probs[lo*e:hi*e], weights[lo*k:hi*k], index[lo*k:hi*k],
			span(dprobs, lo*e, hi*e), span(dweights, lo*k, hi*k), span(work, lo*k, hi*k), e, k, renormalise)
	}))
}

// span is x[lo:hi], nil of nil.
func span(x []float32, lo, hi int) []float32 {
	if x == nil {
		return nil
	}
	return x[lo:hi]
}

// aux is the load-balancing loss over the rows of a batch and the MoE layers.
type aux struct {
	sequence              bool // one mean a layer and row; otherwise one over all
	batch, length, layers int
	experts, k            int
	probs                 [][]float32
	index                 [][]int32
	docs                  []int32
	load, mean            []float64 // [layers, batch, experts]: sums over the unpadded tokens of a row
	tokens                []int     // [layers, batch]
	f, p                  []float64 // [experts]
	loadOf, gradOf        func(task, worker int)
	dprobs                [][]float32
	grads                 []float32 // [layers, batch, experts]: of the probabilities of each unpadded token
}

// newAux takes the inputs of the loss.
func newAux(a *args) *aux {
	x := &aux{sequence: a.Attrs.Int("scope") == 1, batch: a.Attrs.Int("batch"), length: a.Attrs.Int("length"),
		layers: a.Attrs.Int("layers"), experts: a.In[0].Dim(-1), k: a.In[1].Dim(-1)}
	for range x.layers {
		x.probs, x.index = append(x.probs, a.in(true)), append(x.index, a.ints())
	}
	x.docs = a.ints()
	rows := x.layers * x.batch
	x.load, x.mean, x.tokens = make([]float64, rows*x.experts), make([]float64, rows*x.experts), make([]int, rows)
	x.f, x.p = make([]float64, x.experts), make([]float64, x.experts)
	x.loadOf = func(row, _ int) {
		layer, i, load, mean := row/x.batch, row%x.batch, part(x.load, row, x.experts), part(x.mean, row, x.experts)
		clear(load)
		clear(mean)
		x.tokens[row] = simd.RouterLoad(load, mean, part(x.probs[layer], i, x.length*x.experts),
			part(x.index[layer], i, x.length*x.k), part(x.docs, i, x.length), x.k)
	}
	return x
}

// groups calls f for each set of rows that has means of its own: f and p are set to the choices by token and
// the mean probability, and weight is the weight of the group's loss. Groups without tokens are left out.
func (x *aux) groups(f func(lo, hi int, weight, tokens float64)) {
	size, weight := x.layers*x.batch, 1.0
	if x.sequence {
		size, weight = 1, 1/float64(x.layers)
	}
	for lo := 0; lo < len(x.tokens); lo += size {
		clear(x.f)
		clear(x.p)
		tokens := 0
		for row := lo; row < lo+size; row++ {
			tokens += x.tokens[row]
			for e := range x.experts {
				x.f[e] += x.load[row*x.experts+e]
				x.p[e] += x.mean[row*x.experts+e]
			}
		}
		if tokens == 0 {
			continue
		}
		for e := range x.experts {
			x.f[e] /= float64(tokens)
			x.p[e] /= float64(tokens)
		}
		f(lo, lo+size, weight*float64(x.experts), float64(tokens))
	}
}

func routerAux(b *Backend, a *args) func() error {
	x := newAux(a)
	loss, load := a.outOrScratch(0, 1), a.outOrScratch(1, x.layers*x.experts)
	var sum float64
	add := func(_, _ int, weight, _ float64) {
		for e, f := range x.f {
			sum += weight * f * x.p[e]
		}
	}
	return step(func() {
		b.pool.Run(len(x.tokens), x.loadOf)
		sum = 0
		x.groups(add)
		loss[0] = float32(sum)
		clear(load)
		for i, n := range x.load {
			load[i/(x.batch*x.experts)*x.experts+i%x.experts] += float32(n)
		}
	})
}

// routerAuxGrad is dprobs[t,e] = daux weight experts f_e / tokens: the choices have no gradient.
func routerAuxGrad(b *Backend, a *args) func() error {
	x := newAux(a)
	daux := a.in(true)
	for i := range x.layers {
		x.dprobs = append(x.dprobs, a.out(i))
	}
	x.grads = make([]float32, len(x.load))
	set := func(lo, hi int, weight, tokens float64) {
		for i := lo * x.experts; i < hi*x.experts; i++ {
			x.grads[i] = float32(float64(daux[0]) * weight * x.f[i%x.experts] / tokens)
		}
	}
	x.gradOf = func(row, _ int) {
		if d := x.dprobs[row/x.batch]; d != nil {
			i := row % x.batch
			simd.RouterLoadGrad(part(d, i, x.length*x.experts), part(x.grads, row, x.experts), part(x.docs, i, x.length))
		}
	}
	return step(func() {
		b.pool.Run(len(x.tokens), x.loadOf)
		x.groups(set)
		b.pool.Run(len(x.tokens), x.gradOf)
	})
}
