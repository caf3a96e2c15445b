package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() {
	register("swiglu", sized(swiglu))
	register("swiglu_grad", sized(swigluGrad))
}

func swiglu(b *Backend, a *args) func() error {
	rows, n := a.In[0].Dim(0), a.In[0].Dim(1)/2
	gu, y := a.in(true), a.out(0)
	return step(b.overRows(rows, 2*n, func(lo, hi, _ int) {
		simd.SwiGLU(y[lo*n:hi*n], gu[2*lo*n:2*hi*n], n)
	}))
}

func swigluGrad(b *Backend, a *args) func() error {
	rows, n := a.In[0].Dim(0), a.In[0].Dim(1)/2
	gu, dy, dgu := a.in(true), a.in(true), a.out(0)
	return step(b.overRows(rows, 2*n, func(lo, hi, _ int) {
		simd.SwiGLUGrad(dgu[2*lo*n:2*hi*n], gu[2*lo*n:2*hi*n], dy[lo*n:hi*n], n)
	}))
}
