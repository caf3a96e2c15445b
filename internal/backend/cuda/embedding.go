package cuda

import "math/bits"

func init() {
	register("embedding", embedding)
	register("embedding_grad", embeddingGrad)
}

func embedding(a *args) {
	table, ids, y := a.In[0], a.In[1], a.out(0)
	vocab, h, rows := table.Dim(0), table.Dim(1), ids.Size()
	vec, width := vector(h, table, y)
	a.file("embedding", typed("W", table), typed("Y", y), typed("DY", nil), vec, constant("TOKENS", 1)).
		launch("embedding", overRows(rows, h/width), y, a.faults(), table, ids, rows, vocab, h)
}

// digitBits is how many bits of a token's id one pass of the sort takes at most.
const digitBits = 9

// gradTokens are the rows of the table that a block sums.
const gradTokens = 8

// embeddingGrad sorts the positions by token, so that each row of the table is
// summed by one block in the order of the positions.
func embeddingGrad(a *args) {
	ids, dy, dtable := a.In[0], a.In[1], a.out(0)
	vocab, h, rows := dtable.Dim(0), dtable.Dim(1), ids.Size()
	order, spare := address(0), a.scratch(rows)
	sorted := a.scratch(rows)
	width := bits.Len(uint(vocab)) // ids outside the table are sorted as vocab
	digit := blocks(width, blocks(width, digitBits))
	for shift := 0; shift < width; shift += digit {
		a.sort(sortPass{keys: ids, items: order, sorted: sorted, limit: vocab + 1, shift: shift, buckets: 1 << digit})
		order, sorted, spare = sorted, spare, sorted
	}
	starts := a.scratch(vocab + 1)
	vec, each := vector(h, dy, dtable)
	f := a.file("embedding", typed("W", dtable), typed("DY", dy), typed("Y", nil), vec, constant("TOKENS", gradTokens))
	f.launch("token_starts", grid{x: blocks(rows+1, blockThreads), threads: blockThreads}, starts, order, ids, rows, vocab)
	threads := threadsFor(h/each, blockThreads)
	f.launch("embedding_grad", grid{x: blocks(vocab, gradTokens), y: blocks(h/each, threads), threads: threads}, dtable, starts, order, dy, vocab, h,
		a.Attrs.Int("pad"))
}
