package cpu

import (
	"fmt"

	"jambalaya/internal/backend/cpu/simd"
)

func init() {
	register("cross_entropy", sized(crossEntropy))
	register("cross_entropy_grad", sized(crossEntropyGrad))
}

func crossEntropy(b *Backend, a *args) func() error {
	rows, vocab := a.In[0].Dim(0), a.In[0].Dim(1)
	logits, targets := a.in(true), a.ints()
	loss, nll, lse := a.out(0), a.outOrScratch(1, rows), a.outOrScratch(2, rows)
	run := b.overRows(rows, 4*vocab, func(lo, hi, _ int) {
		simd.CrossEntropy(nll[lo:hi], lse[lo:hi], logits[lo*vocab:hi*vocab], targets[lo:hi], vocab)
	})
	return func() error {
		if err := inRange("cross_entropy: target", targets, vocab); err != nil {
			return err
		}
		run()
		if loss != nil {
			loss[0] = float32(simd.Sum64(nll))
		}
		return nil
	}
}

// inRange is an error unless all ids are below n; negative ones have a meaning of their own.
func inRange(what string, ids []int32, n int) error {
	for t, id := range ids {
		if int(id) >= n {
			return fmt.Errorf("%s %d at position %d: must be below %d", what, id, t, n)
		}
	}
	return nil
}

func crossEntropyGrad(b *Backend, a *args) func() error {
	rows, vocab := a.In[0].Dim(0), a.In[0].Dim(1)
	logits, targets, lse, dloss, dlogits := a.in(true), a.ints(), a.in(true), a.in(true), a.out(0)
	return step(b.overRows(rows, 2*vocab, func(lo, hi, _ int) {
		simd.CrossEntropyGrad(dlogits[lo*vocab:hi*vocab], logits[lo*vocab:hi*vocab], lse[lo:hi], targets[lo:hi], dloss[0], vocab)
	}))
}
