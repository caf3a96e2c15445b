package cpu

import (
	"fmt"

	"jambalaya/internal/backend/cpu/simd"
)

func init() {
	register("expert_sort", sized(expertSort))
	register("dispatch", sized(dispatch))
	register("dispatch_grad", sized(dispatchGrad))
	register("combine", sized(combine))
	register("combine_grad", sized(combineGrad))
}

func expertSort(_ *Backend, a *args) func() error {
	n, experts := a.In[0].Size(), a.Attrs.Int("experts")
	index := a.ints()
	slot, source, offsets := a.outInts(0, n), a.outInts(1, n), a.outInts(2, experts+1)
	return func() error {
		for i, e := range index {
			if e < 0 || int(e) >= experts {
				return fmt.Errorf("expert_sort: assignment %d goes to expert %d of %d", i, e, experts)
			}
		}
		simd.ExpertSort(slot, source, offsets, index)
		return nil
	}
}

func dispatch(b *Backend, a *args) func() error {
	h, k := a.In[0].Dim(1), a.In[1].Dim(1)
	x := a.in(true)
	a.ints() // slot is the gradient's
	source, xs := a.ints(), a.out(0)
	return step(b.overRows(a.In[2].Size(), h, func(lo, hi, _ int) {
		simd.Dispatch(xs[lo*h:hi*h], x, source[lo:hi], k, h)
	}))
}

func dispatchGrad(b *Backend, a *args) func() error {
	rows, k, h := a.In[1].Dim(0), a.In[1].Dim(1), a.In[0].Dim(1)
	dxs, slot, dx := a.in(true), a.ints(), a.out(0)
	return step(b.overRows(rows, (k+1)*h, func(lo, hi, _ int) {
		simd.DispatchGrad(dx[lo*h:hi*h], dxs, slot[lo*k:hi*k], k, h)
	}))
}

func combine(b *Backend, a *args) func() error {
	rows, k, h := a.In[1].Dim(0), a.In[1].Dim(1), a.In[0].Dim(1)
	ys, weights, slot, y := a.in(true), a.in(true), a.ints(), a.out(0)
	return step(b.overRows(rows, (k+1)*h, func(lo, hi, _ int) {
		simd.Combine(y[lo*h:hi*h], ys, weights[lo*k:hi*k], slot[lo*k:hi*k], k, h)
	}))
}

func combineGrad(b *Backend, a *args) func() error {
	rows, k, h := a.In[1].Dim(0), a.In[1].Dim(1), a.In[0].Dim(1)
	ys, weights, slot := a.in(true), a.in(true), a.ints()
	a.ints() // source
	dy, dys, dweights := a.in(true), a.out(0), a.out(1)
	return step(b.overRows(rows, 2*(k+1)*h, func(lo, hi, _ int) {
		simd.CombineGrad(dys, span(dweights, lo*k, hi*k), ys, weights[lo*k:hi*k], dy[lo*h:hi*h], slot[lo*k:hi*k], k, h)
	}))
}
