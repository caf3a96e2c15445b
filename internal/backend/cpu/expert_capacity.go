package cpu

func init() { register("expert_capacity", sized(expertCapacity)) }

// expertCapacity zeroes the weights of what comes to a full expert: first choices are
// counted before second ones, then earlier positions before later ones.
func expertCapacity(b *Backend, a *args) func() error {
	batch, length, k := a.Attrs.Int("batch"), a.Attrs.Int("length"), a.In[1].Dim(1)
	experts, capacity := a.Attrs.Int("experts"), float32(a.Attrs.Int("capacity"))
	weights, index, docs := a.in(true), a.ints(), a.ints()
	limited, drops := a.outOrScratch(0, batch*length*k), a.outOrScratch(1, batch*experts)
	sequence := func(i, _ int) {
		limited, index, docs := part(limited, i, length*k), part(index, i, length*k), part(docs, i, length)
		taken := part(drops, i, experts) // whole numbers far below 2^24
		copy(limited, part(weights, i, length*k))
		clear(taken)
		for j := range k {
			for t, doc := range docs {
				if doc < 0 {
					continue
				}
				e := index[t*k+j]
				if taken[e]++; taken[e] > capacity {
					limited[t*k+j] = 0
				}
			}
		}
		for e, n := range taken {
			taken[e] = max(0, n-capacity)
		}
	}
	return step(func() { b.pool.Run(batch, sequence) })
}
