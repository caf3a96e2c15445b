package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() { register("matmul", sized(matmul)) }

// matmul: c = op(a) op(b), or c += op(a) op(b) with accumulate, c being the third input.
func matmul(b *Backend, a *args) func() error {
	ta, tb := a.Attrs.Bool("ta"), a.Attrs.Bool("tb")
	x, y := a.In[0], a.In[1]
	g := simd.Gemm{Accumulate: a.Attrs.Bool("accumulate"), M: x.Dim(0), K: x.Dim(1), N: y.Dim(1)}
	if ta {
		g.M, g.K = g.K, g.M
	}
	if tb {
		g.N = y.Dim(0)
	}
	g.A = simd.Mat{Data: a.in(true), Ld: x.Dim(1), Trans: ta}
	g.B = simd.Mat{Data: a.in(true), Ld: y.Dim(1), Trans: tb}
	g.C, g.LdC = a.out(0), g.N
	p := newProducts(b, 1)
	p.items[0] = g
	return step(p.run)
}
