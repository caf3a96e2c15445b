package cpu

import (
	"fmt"
	"math/bits"

	"jambalaya/internal/backend/cpu/simd"
)

func init() {
	register("embedding", sized(embedding))
	register("embedding_grad", sized(embeddingGrad))
}

func embedding(b *Backend, a *args) func() error {
	vocab, h, rows := a.In[0].Dim(0), a.In[0].Dim(1), a.In[1].Size()
	table, ids, y := a.in(true), a.ints(), a.out(0)
	run := b.overRows(rows, h, func(lo, hi, _ int) { simd.Embedding(y[lo*h:hi*h], table, ids[lo:hi], h) })
	return func() error {
		for t, id := range ids {
			if id < 0 || int(id) >= vocab {
				return fmt.Errorf("embedding: token %d at position %d: must be in [0, %d)", id, t, vocab)
			}
		}
		run()
		return nil
	}
}

// embeddingGrad shares the rows of the table out: who adds to a row does so for all of its tokens, in their order.
// Neighbours go to different tasks, as frequent tokens often are neighbours.
func embeddingGrad(b *Backend, a *args) func() error {
	h, pad := a.In[1].Dim(1), int32(a.Attrs.Int("pad"))
	ids, dy, dtable := a.ints(), a.in(true), a.out(0)
	parts := 1
	if workers := b.pool.Workers(); workers > 1 { // each part reads all ids
		parts = 1 << bits.Len(uint(2*workers))
	}
	return step(b.over(parts, 1, func(part, _, _ int) {
		simd.EmbeddingGrad(dtable, dy, ids, pad, h, part, parts)
	}))
}
