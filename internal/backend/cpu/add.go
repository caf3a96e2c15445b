package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() {
	register("add", sized(add))
	register("add_bias", sized(addBias))
	register("column_sum", sized(columnSum))
}

// add: a + b, elementwise.
func add(b *Backend, a *args) func() error {
	n := a.In[0].Size()
	x, y, sum := a.in(true), a.in(true), a.out(0)
	return step(b.over(n, taskElements, func(lo, hi, _ int) {
		simd.Add(sum[lo:hi], x[lo:hi], y[lo:hi])
	}))
}

// addBias: x[T,N] + b[N] in every row.
func addBias(b *Backend, a *args) func() error {
	rows, n := a.In[0].Dim(0), a.In[0].Dim(1)
	x, bias, y := a.in(true), a.in(true), a.out(0)
	return step(b.overRows(rows, n, func(lo, hi, _ int) {
		for r := lo; r < hi; r++ {
			simd.Add(y[r*n:(r+1)*n], x[r*n:(r+1)*n], bias)
		}
	}))
}

// columnSum: the sum over the rows of x[T,N].
func columnSum(b *Backend, a *args) func() error {
	rows, n := a.In[0].Dim(0), a.In[0].Dim(1)
	x, db := a.in(true), a.out(0)
	sum := newRowSum(a, rows, n)
	return step(b.over(rows, sum.block, func(lo, hi, _ int) {
		part := sum.part(lo)
		for r := lo; r < hi; r++ {
			simd.Add(part, part, x[r*n:(r+1)*n])
		}
	}), func() { sum.total(db) })
}
