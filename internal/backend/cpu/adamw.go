package cpu

import (
	"math"

	"jambalaya/internal/backend/cpu/simd"
)

func init() {
	register("sum_squares", sized(sumSquares))
	register("adamw", sized(adamW))
	register("narrow", sized(narrow))
}

// flatBlock is the number of elements in a task over a flat buffer. Sums depend on it.
const flatBlock = 1 << 16

func sumSquares(b *Backend, a *args) func() error {
	n := a.In[0].Size()
	x, out := a.in(true), a.out(0)
	parts := make([]float64, blocks(n, flatBlock))
	return step(b.over(n, flatBlock, func(lo, hi, _ int) {
		parts[lo/flatBlock] = simd.SumSquares(x[lo:hi])
	}), func() {
		var sum float64
		for _, s := range parts {
			sum += s
		}
		out[0] = float32(sum)
	})
}

// adamW leaves everything as it is where the gradient is not finite or the step is to be skipped.
func adamW(b *Backend, a *args) func() error {
	n := a.In[0].Size()
	clip := a.Attrs.Float("clip")
	opt := simd.AdamW{Beta1: a.Attrs.Float("beta1"), Beta2: a.Attrs.Float("beta2"), Eps: a.Attrs.Float("eps"),
		WeightDecay: a.Attrs.Float("weight_decay")}
	p, m, v, grad, squares, hyper := a.in(true), a.in(true), a.in(true), a.in(true), a.in(true), a.in(true)
	second := a.in(a.Attrs.Bool("narrow"))
	update := b.over(n, flatBlock, func(lo, hi, _ int) {
		opt.Step(p[lo:hi], m[lo:hi], v[lo:hi], grad[lo:hi])
		if second != nil {
			copy(second[lo:hi], p[lo:hi])
		}
	})
	return func() error {
		norm := math.Sqrt(float64(squares[0]))
		if math.IsNaN(norm) || math.IsInf(norm, 0) || hyper[3] == 0 {
			return nil
		}
		opt.LR, opt.Correction1, opt.Correction2 = float64(hyper[0]), float64(hyper[1]), float64(hyper[2])
		opt.GradScale = 1
		if clip > 0 {
			opt.GradScale = min(1, clip/(norm+1e-6))
		}
		update()
		return nil
	}
}

// narrow copies: all that the processor stores is fp32.
func narrow(b *Backend, a *args) func() error {
	n := a.In[0].Size()
	x, to := a.in(true), a.out(0)
	return step(b.over(n, flatBlock, func(lo, hi, _ int) { copy(to[lo:hi], x[lo:hi]) }))
}
