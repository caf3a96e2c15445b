package cuda

import "jambalaya/internal/engine"

func init() {
	register("expert_sort", expertSort)
	register("dispatch", dispatch)
	register("dispatch_grad", dispatchGrad)
	register("combine", combine)
	register("combine_grad", combineGrad)
}

// Sizes of the sort, as in sort.cu.
const (
	sortTile    = 1024
	sortThreads = 256
)

// sortPass is one pass of a stable sort: see sort.cu. Nil and 0 stand for what is
// not wanted.
type sortPass struct {
	keys                  *engine.Tensor
	items, sorted         address // order before and after
	slot, offsets         *engine.Tensor
	limit, shift, buckets int
	faults                address
}

func (a *args) sort(p sortPass) {
	n := p.keys.Size()
	count := blocks(n, sortTile)
	counts := a.scratch(count * p.buckets)
	f := a.file("sort")
	f.launch("sort_count", grid{x: count, threads: sortThreads, shared: 4 * p.buckets}, counts, p.faults, p.keys, p.items, n, p.limit, p.shift, p.buckets)
	f.launch("sort_scan", grid{x: 1, threads: 1024, shared: 4 * (p.buckets + 1)}, p.offsets, counts, count, p.buckets)
	f.launch("sort_place", grid{x: count, threads: sortThreads, shared: 4 * (sortThreads/32 + 1) * p.buckets},
		p.sorted, p.slot, counts, p.keys, p.items, n, p.limit, p.shift, p.buckets)
}

func expertSort(a *args) {
	experts := a.Attrs.Int("experts")
	a.sort(sortPass{keys: a.In[0], slot: a.out(0), sorted: at(a.out(1)), offsets: a.out(2), limit: experts, buckets: experts, faults: a.faults()})
}

func dispatch(a *args) {
	x, source, xs := a.In[0], a.In[2], a.out(0)
	h, k, rows := x.Dim(1), a.In[1].Dim(1), source.Size()
	vec, width := vector(h, x, xs)
	const together = 4 // rows of a thread, as in expert.cu
	a.file("expert", typed("X", x), typed("Y", xs), typed("DY", nil), vec).
		launch("dispatch", overRows(blocks(rows, together), h/width), xs, x, source, rows, k, h)
}

func dispatchGrad(a *args) { a.combine(a.In[0], nil, a.In[1], a.out(0)) }

func combine(a *args) { a.combine(a.In[0], a.In[1], a.In[2], a.out(0)) }

// combine sums the rows of x that the slots of each token name.
func (a *args) combine(x, weights, slot, y *engine.Tensor) {
	rows, k, h := slot.Dim(0), slot.Dim(1), x.Dim(1)
	vec, width := vector(h, x, y)
	a.file("expert", typed("X", x), typed("Y", y), typed("DY", nil), vec).
		launch("combine", overRows(rows, h/width), y, x, weights, slot, rows, k, h)
}

func combineGrad(a *args) {
	ys, weights, slot, dy := a.In[0], a.In[1], a.In[2], a.In[4]
	dys := a.out(0)
	rows, k, h := slot.Dim(0), slot.Dim(1), ys.Dim(1)
	vec, width := vector(h, ys, dy, dys)
	a.file("expert", typed("X", ys), typed("Y", dys), typed("DY", dy), vec).
		launch("combine_grad", aRow(rows, h/width), dys, a.out(1), ys, weights, slot, dy, k, h)
}
