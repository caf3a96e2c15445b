package cpu

import (
	"fmt"

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

// embeddingColumns is the number of columns in a task of the gradient, which adds rows in the order of the
// tokens: four cache lines.
const embeddingColumns = 64

func embeddingGrad(b *Backend, a *args) func() error {
	h, pad := a.In[1].Dim(1), int32(a.Attrs.Int("pad"))
	ids, dy, dtable := a.ints(), a.in(true), a.out(0)
	columns := embeddingColumns
	if b.pool.Workers() == 1 {
		columns = h // whole rows are read twice as fast
	}
	return step(b.over(h, columns, func(c0, c1, _ int) {
		simd.EmbeddingGrad(dtable, dy, ids, pad, h, c0, c1)
	}))
}
