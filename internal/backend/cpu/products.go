package cpu

import "jambalaya/internal/backend/cpu/simd"

// products runs a list of matrix products on the pool. Workers first copy columns of B to panels that all of
// them read, as many as there is memory for, then compute tiles of C; this repeats until every product is done.
// How the work is cut depends on the workers, but no bit of the result does (see simd.Gemm).
type products struct {
	b      *Backend
	items  []simd.Gemm // the caller sets shapes and operands before run
	packed []float32
	groups []group // products that are computed together, ends in tasks being running sums
	pack   func(task, worker int)
	tile   func(task, worker int)
}

// group is a range of panels of one product.
type group struct {
	g        *simd.Gemm
	p0, p1   int
	packed   []float32
	rowTiles int
	colTiles int

	packEnd, tileEnd int
}

// Limits of the work cut for the pool.
const (
	packedFloats  = 1 << 18 // B that is packed at a time for each worker: 1 MB, to stay in its cache
	packTask      = 1 << 15 // floats of B worth a task
	tilesAWorker  = 4       // tiles to balance the load with
	smallestTile  = 1 << 20 // floating point operations worth a task
	smallestSplit = 32      // rows that make a tile worth copying its part of A
	fewRows       = 8       // rows below which reading B is what takes the time
)

// newProducts makes a list of n products. It takes memory for right-hand sides of at most k rows each, all of them
// together of the given rows and columns.
func newProducts(b *Backend, a *args, n, k, rows, columns int) *products {
	p := &products{b: b, items: make([]simd.Gemm, n), groups: make([]group, 0, n)}
	panel := 2 * simd.PanelColumns() // more than any panel has
	all := rows * (columns + panel)
	p.packed = a.scratch(max(panel*k, min(all, packedFloats*b.pool.Workers())))
	p.pack, p.tile = p.packTask, p.tileTask
	return p
}

// run computes all items.
func (p *products) run() {
	item, panel := 0, 0
	for item < len(p.items) {
		item, panel = p.fill(item, panel)
		last := len(p.groups) - 1
		if last < 0 {
			continue
		}
		p.b.pool.Run(p.groups[last].packEnd, p.pack)
		p.b.pool.Run(p.cutTiles(), p.tile)
	}
}

// fill makes groups of the products from a panel of an item on, until the memory for panels is full, and returns
// where to go on.
func (p *products) fill(item, panel int) (nextItem, nextPanel int) {
	p.groups = p.groups[:0]
	used, tasks := 0, 0
	for ; item < len(p.items); item, panel = item+1, 0 {
		g := &p.items[item]
		if g.M == 0 || g.N == 0 {
			continue
		}
		panels, end := g.Panels(), panel
		for end < panels && g.PackedLen(panel, end+1) <= len(p.packed)-used {
			end++
		}
		if end == panel {
			return item, panel
		}
		size := g.PackedLen(panel, end)
		tasks += blocks(size, packTask)
		p.groups = append(p.groups, group{g: g, p0: panel, p1: end, packed: p.packed[used : used+size], packEnd: tasks})
		used += size
		if end < panels {
			return item, end
		}
	}
	return item, 0
}

// cutTiles cuts each group into tiles of about the same work and returns their number.
func (p *products) cutTiles() int {
	total := 0
	for i := range p.groups {
		total += p.groups[i].work()
	}
	workers := p.b.pool.Workers()
	target := max(smallestTile, blocks(total, tilesAWorker*workers))
	if workers == 1 {
		target = total
	}
	tasks := 0
	for i := range p.groups {
		s := &p.groups[i]
		tiles := blocks(s.work(), max(target, 1))
		s.rowTiles = max(1, min(tiles, s.g.M/smallestSplit))
		s.colTiles = max(1, min(blocks(tiles, s.rowTiles), s.p1-s.p0))
		tasks += s.rowTiles * s.colTiles
		s.tileEnd = tasks
	}
	return tasks
}

// work is the cost in floating point operations, at least 1. Reading B costs as much as computing fewRows rows.
func (s *group) work() int {
	return max(1, 2*max(s.g.M, fewRows)*s.g.K*simd.PanelColumns()*(s.p1-s.p0))
}

func (p *products) packTask(task, _ int) {
	first := 0
	for i := range p.groups {
		s := &p.groups[i]
		if task < s.packEnd {
			s.g.PackPart(s.packed, s.p0, s.p1, task-first, s.packEnd-first)
			return
		}
		first = s.packEnd
	}
}

func (p *products) tileTask(task, worker int) {
	first := 0
	for i := range p.groups {
		s := &p.groups[i]
		if task < s.tileEnd {
			row, col := (task-first)%s.rowTiles, (task-first)/s.rowTiles
			i0, i1 := cut(s.g.M, s.rowTiles, row)
			p0, p1 := cut(s.p1-s.p0, s.colTiles, col)
			s.g.Tile(&p.b.work[worker], s.packed, s.p0, i0, i1, s.p0+p0, s.p0+p1)
			return
		}
		first = s.tileEnd
	}
}

// cut returns the range of part i when n is cut into parts that differ by one at most.
func cut(n, parts, i int) (lo, hi int) { return n * i / parts, n * (i + 1) / parts }
