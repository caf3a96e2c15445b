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

// sortBlock is the number of assignments that are counted and placed in one task.
const sortBlock = 1 << 13

// expertSort orders the n assignments of tokens to experts by expert, stably: slot[i] is the row of assignment i,
// source[row] the assignment of a row, and rows [offsets[e], offsets[e+1]) are those of expert e.
func expertSort(b *Backend, a *args) func() error {
	n, experts := a.In[0].Size(), a.Attrs.Int("experts")
	index := a.ints()
	slot, source, offsets := a.outInts(0, n), a.outInts(1, n), a.outInts(2, experts+1)
	next := make([]int32, blocks(n, sortBlock)*experts) // of each block: first counts, then rows
	count := b.over(n, sortBlock, func(lo, hi, _ int) {
		simd.ExpertCount(part(next, lo/sortBlock, experts), index[lo:hi])
	})
	place := b.over(n, sortBlock, func(lo, hi, _ int) {
		simd.ExpertPlace(slot[lo:hi], source, part(next, lo/sortBlock, experts), index[lo:hi], int32(lo))
	})
	return func() error {
		count()
		if row := firstRows(offsets, next); row < n {
			return misplaced(index, experts)
		}
		place()
		return nil
	}
}

// firstRows replaces the counts of blocks by the first row of each expert in each block, sets offsets, and
// returns the number of rows.
func firstRows(offsets, counts []int32) int {
	row, experts := int32(0), len(offsets)-1
	for e := range experts {
		offsets[e] = row
		for i := e; i < len(counts); i += experts {
			counts[i], row = row, row+counts[i]
		}
	}
	offsets[experts] = row
	return int(row)
}

// misplaced is the error for an assignment to an expert that there is not.
func misplaced(index []int32, experts int) error {
	for i, e := range index {
		if e < 0 || int(e) >= experts {
			return fmt.Errorf("expert_sort: assignment %d goes to expert %d of %d", i, e, experts)
		}
	}
	return nil
}

func dispatch(b *Backend, a *args) func() error {
	rows, k, h := a.In[1].Dim(0), a.In[1].Dim(1), a.In[0].Dim(1)
	x, slot, xs := a.in(true), a.ints(), a.out(0)
	return step(b.overRows(rows, (k+1)*h, func(lo, hi, _ int) {
		simd.Dispatch(xs, x[lo*h:hi*h], slot[lo*k:hi*k], k, h)
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
