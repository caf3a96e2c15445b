package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() {
	register("grouped_matmul", sized(groupedMatMul))
	register("grouped_matmul_dx", sized(groupedMatMulDx))
	register("grouped_matmul_dw", sized(groupedMatMulDw))
}

// experts are the products of one grouped kernel: expert e has rows [offsets[e], offsets[e+1]), which are known
// when the step runs.
type experts struct {
	*products
	offsets []int32
}

// run lets set fill in the product of each expert, given its number and rows, and computes all.
func (x *experts) run(set func(g *simd.Gemm, e, lo, hi int)) func() error {
	return step(func() {
		for e := range x.items {
			set(&x.items[e], e, int(x.offsets[e]), int(x.offsets[e+1]))
		}
		x.products.run()
	})
}

// groupedMatMul: y[s] = x[s] w[e]^T.
func groupedMatMul(b *Backend, a *args) func() error {
	k, count, n := a.In[0].Dim(1), a.In[1].Dim(0), a.In[1].Dim(1)
	x, w, y := a.in(true), a.in(true), a.out(0)
	each := experts{newProducts(b, count), a.ints()}
	return each.run(func(g *simd.Gemm, e, lo, hi int) {
		*g = simd.Gemm{M: hi - lo, N: n, K: k, LdC: n,
			A: simd.Mat{Data: x[lo*k : hi*k], Ld: k},
			B: simd.Mat{Data: w[e*n*k : (e+1)*n*k], Ld: k, Trans: true},
			C: y[lo*n : hi*n]}
	})
}

// groupedMatMulDx: dx[s] = dy[s] w[e].
func groupedMatMulDx(b *Backend, a *args) func() error {
	count, n, k := a.In[1].Dim(0), a.In[1].Dim(1), a.In[1].Dim(2)
	dy, w, dx := a.in(true), a.in(true), a.out(0)
	each := experts{newProducts(b, count), a.ints()}
	return each.run(func(g *simd.Gemm, e, lo, hi int) {
		*g = simd.Gemm{M: hi - lo, N: k, K: n, LdC: k,
			A: simd.Mat{Data: dy[lo*n : hi*n], Ld: n},
			B: simd.Mat{Data: w[e*n*k : (e+1)*n*k], Ld: k},
			C: dx[lo*k : hi*k]}
	})
}

// groupedMatMulDw: dw[e] = sum over its rows of dy[s]^T x[s], added to dw with accumulate.
func groupedMatMulDw(b *Backend, a *args) func() error {
	n, k, count := a.In[0].Dim(1), a.In[1].Dim(1), a.In[2].Dim(0)-1
	accumulate := a.Attrs.Bool("accumulate")
	dy, x, dw := a.in(true), a.in(true), a.out(0)
	each := experts{newProducts(b, count), a.ints()}
	return each.run(func(g *simd.Gemm, e, lo, hi int) {
		*g = simd.Gemm{M: n, N: k, K: hi - lo, LdC: k, Accumulate: accumulate,
			A: simd.Mat{Data: dy[lo*n : hi*n], Ld: n, Trans: true},
			B: simd.Mat{Data: x[lo*k : hi*k], Ld: k},
			C: dw[e*n*k : (e+1)*n*k]}
	})
}
