package cpu

import "jambalaya/internal/backend/cpu/simd"

// products runs a list of matrix products on the pool, cut into tiles of about the same work. How the work is cut
// depends on the workers, but no bit of the result does (see simd.Gemm).
type products struct {
	b     *Backend
	items []simd.Gemm // the caller sets shapes and operands before run
	cuts  []grid      // of each item
	tile  func(task, worker int)
}

// grid is how a product is cut into tiles; end is the number of tiles up to its last.
type grid struct{ rows, columns, end int }

// Limits of the work cut for the pool.
const (
	tilesAWorker  = 2       // tiles to balance the load with
	smallestTile  = 1 << 20 // floating point operations worth a task
	smallestSplit = 32      // rows that make a tile worth copying its part of B
	fewRows       = 8       // rows below which reading B is what takes the time
)

// newProducts makes a list of n products.
func newProducts(b *Backend, n int) *products {
	p := &products{b: b, items: make([]simd.Gemm, n), cuts: make([]grid, n)}
	p.tile = p.tileTask
	return p
}

// run computes all items.
func (p *products) run() { p.b.pool.Run(p.cutTiles(), p.tile) }

// cutTiles cuts the products and returns the number of tiles.
func (p *products) cutTiles() int {
	total := 0
	for i := range p.items {
		total += work(&p.items[i])
	}
	workers, end := p.b.pool.Workers(), 0
	target := max(smallestTile, blocks(total, tilesAWorker*workers))
	for i := range p.items {
		g, c := &p.items[i], &p.cuts[i]
		*c = grid{rows: 1, columns: 1}
		if workers > 1 {
			*c = cutProduct(g, blocks(work(g), target))
		}
		if g.M > 0 && g.N > 0 {
			end += c.rows * c.columns
		}
		c.end = end
	}
	return end
}

// work is the cost in floating point operations. Reading B costs as much as computing fewRows rows.
func work(g *simd.Gemm) int { return 2 * max(g.M, fewRows) * max(g.K, 1) * g.N }

// cutProduct cuts a product into at least the given number of tiles, if it has as many, such that the least is
// copied: each column of tiles copies the rows of A, each row of tiles the columns of B.
func cutProduct(g *simd.Gemm, tiles int) grid {
	mostRows, mostColumns := max(1, g.M/smallestSplit), g.Panels()
	best, least := grid{rows: mostRows, columns: mostColumns}, -1
	for columns := 1; columns <= min(tiles, mostColumns); columns++ {
		rows := blocks(tiles, columns)
		if copied := columns*g.M + rows*g.N; rows <= mostRows && (least < 0 || copied < least) {
			best, least = grid{rows: rows, columns: columns}, copied
		}
	}
	return best
}

func (p *products) tileTask(task, worker int) {
	i, first := 0, 0
	for ; task >= p.cuts[i].end; i++ {
		first = p.cuts[i].end
	}
	g, c := &p.items[i], p.cuts[i]
	row, col := (task-first)%c.rows, (task-first)/c.rows
	i0, i1 := cut(g.M, c.rows, row)
	p0, p1 := cut(g.Panels(), c.columns, col)
	g.Compute(&p.b.work[worker], i0, i1, p0, p1)
}

// cut returns the range of part i when n is cut into parts that differ by one at most.
func cut(n, parts, i int) (lo, hi int) { return n * i / parts, n * (i + 1) / parts }
