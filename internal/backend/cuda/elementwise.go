package cuda

import "jambalaya/internal/engine"

func init() {
	register("add", add)
	register("add_bias", addBias)
	register("column_sum", columnSum)
}

// add: a + b, elementwise.
func add(a *args) {
	x, y, sum := a.In[0], a.In[1], a.out(0)
	vec, width := vector(x.Size(), x, y, sum)
	a.file("elementwise", typed("A", x), typed("B", y), typed("Y", sum), vec).
		launch("add", flat(x.Size(), width), sum, x, y, x.Size())
}

// addBias: x[T,N] + b[N] in every row.
func addBias(a *args) {
	x, bias, y := a.In[0], a.In[1], a.out(0)
	rows, n := x.Dim(0), x.Dim(1)
	vec, width := vector(n, x, bias, y)
	a.file("elementwise", typed("A", x), typed("B", bias), typed("Y", y), vec).
		launch("add_bias", overRows(rows, n/width), y, x, bias, rows, n)
}

// mostParts is the number of parts in sums over rows.
const mostParts = 1024

// columnSum: the sum over the rows of x[T,N], in parts.
func columnSum(a *args) {
	x, db := a.In[0], a.out(0)
	rows, n := x.Dim(0), x.Dim(1)
	parts, each := rowParts(rows, max(32, mostParts*32/max(n, 1)))
	sums := a.scratch(parts * n)
	f := a.file("reduce", typed("X", x))
	f.launch("column_parts", grid{x: blocks(n, 32), y: parts, threads: 32, rows: 8}, sums, x, rows, each, n)
	a.sumParts(db, sums, parts, n, n)
}

// sumParts sets out[n] to the sum over count parts, stride elements apart; a nil
// output is not asked for.
func (a *args) sumParts(out *engine.Tensor, parts address, count, stride, n int) {
	if out == nil {
		return
	}
	g := grid{x: blocks(n, 32), threads: 32, rows: 8}
	if g.x < 512 && count > 64 { // too few blocks to wait for one row of threads after the other
		g.rows = 32
	}
	a.file("reduce", typed("OUT", out)).launch("sum_parts", g, out, parts, count, stride, n)
}
