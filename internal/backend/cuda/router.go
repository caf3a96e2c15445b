package cuda

import (
	"fmt"

	"jambalaya/internal/engine"
)

func init() {
	register("router_topk", routerTopK)
	register("router_topk_grad", routerTopKGrad)
	register("router_aux", routerAux)
	register("router_aux_grad", routerAuxGrad)
}

// warpRows gives each row to a warp.
func warpRows(rows int) grid { return grid{x: blocks(rows, 8), threads: 32, rows: 8} }

// or is t, or scratch memory of n elements where nobody uses it.
func (a *args) or(t *engine.Tensor, n int) any {
	if t != nil {
		return t
	}
	return a.scratch(n)
}

func routerTopK(a *args) {
	x, k := a.In[0], a.Attrs.Int("k")
	rows, experts := x.Dim(0), x.Dim(1)
	probs, weights, index := a.or(a.out(0), rows*experts), a.or(a.out(1), rows*k), a.or(a.out(2), rows*k)
	a.file("router", typed("X", x), typed("DX", nil)).launch("router_topk", warpRows(rows), probs, weights, index, x, rows, experts, k,
		flagged(a.Attrs.Bool("renormalise")))
}

func routerTopKGrad(a *args) {
	probs, weights, index := a.in(true), a.in(true), a.in(true)
	dprobs, dweights := a.in(a.Attrs.Bool("has_dprobs")), a.in(a.Attrs.Bool("has_dweights"))
	rows, experts := probs.Dim(0), probs.Dim(1)
	a.file("router", typed("X", nil), typed("DX", a.out(0))).launch("router_topk_grad", warpRows(rows), a.out(0), probs, weights, index,
		dprobs, dweights, rows, experts, a.Attrs.Int("k"), flagged(a.Attrs.Bool("renormalise")))
}

// auxTile is the number of tokens in a part of the counts of the balancing loss.
const auxTile = 64

// aux is the balancing loss of a list of layers.
type aux struct {
	layers, batch, length, experts, k, tiles, whole int
	docs                                            *engine.Tensor
	file                                            file
	list                                            []byte
	counts, sums, valid                             address
}

// newAux starts the counting, which loss and gradient begin with.
func newAux(a *args, gradients []*engine.Tensor) aux {
	x := aux{layers: a.Attrs.Int("layers"), batch: a.Attrs.Int("batch"), length: a.Attrs.Int("length"),
		experts: a.In[0].Dim(1), k: a.In[1].Dim(1), whole: flagged(a.Attrs.Int("scope") == 0)}
	if x.layers > 128 {
		a.fail(fmt.Errorf("cuda: the balancing loss takes at most 128 layers, not %d", x.layers))
	}
	x.tiles = blocks(x.length, auxTile)
	var members []any
	for i := range 2 {
		for l := range x.layers {
			members = append(members, a.In[2*l+i])
		}
	}
	for l := range x.layers {
		var g *engine.Tensor
		if gradients != nil {
			g = gradients[l]
		}
		members = append(members, g)
	}
	x.list, x.docs = structure(members...), a.In[2*x.layers]
	parts := x.layers * x.batch * x.tiles
	x.counts, x.sums, x.valid = a.scratch(parts*x.experts), a.scratch(parts*x.experts), a.scratch(x.batch*x.tiles)
	x.file = a.file("router_aux", constant("LAYERS", x.layers))
	x.file.launch("aux_parts", grid{x: x.tiles, y: x.batch, z: x.layers, threads: threadsFor(x.experts, blockThreads)},
		x.list, x.counts, x.sums, x.valid, x.docs, x.length, auxTile, x.experts, x.k)
	return x
}

// total adds the counts up: the loss, the load, or the shares that the gradient needs.
func (x aux) total(loss, load *engine.Tensor, share address) {
	x.file.launch("aux_total", grid{x: 1, threads: 1024}, loss, load, share, x.counts, x.sums, x.valid,
		x.layers, x.batch, x.tiles, x.experts, x.whole)
}

func routerAux(a *args) { newAux(a, nil).total(a.out(0), a.out(1), 0) }

func routerAuxGrad(a *args) {
	x := newAux(a, a.Out)
	share := a.scratch(x.layers * x.batch * x.experts)
	x.total(nil, nil, share)
	g := flat(x.batch*x.length*x.experts, 1)
	g.y = x.layers
	x.file.launch("aux_grad", g, x.list, share, a.In[2*x.layers+1], x.docs, x.layers, x.batch, x.length, x.experts, x.whole)
}
