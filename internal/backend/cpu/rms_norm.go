package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() {
	register("rms_norm", sized(rmsNorm))
	register("rms_norm_grad", sized(rmsNormGrad))
	register("split_norm", sized(splitNorm))
	register("split_norm_grad", sized(splitNormGrad))
}

func rmsNorm(b *Backend, a *args) func() error {
	rows, h := a.In[0].Dim(0), a.In[0].Dim(1)
	residual, eps := a.Attrs.Bool("residual"), float32(a.Attrs.Float("eps"))
	x, delta, w := a.in(true), a.in(residual), a.in(true)
	y, rstd := a.outOrScratch(0, rows*h), a.outOrScratch(1, rows)
	if !residual {
		return step(b.overRows(rows, h, func(lo, hi, _ int) {
			simd.RMSNorm(y[lo*h:hi*h], rstd[lo:hi], nil, x[lo*h:hi*h], nil, w, eps)
		}))
	}
	sum := a.outOrScratch(2, rows*h)
	return step(b.overRows(rows, h, func(lo, hi, _ int) {
		simd.RMSNorm(y[lo*h:hi*h], rstd[lo:hi], sum[lo*h:hi*h], x[lo*h:hi*h], delta[lo*h:hi*h], w, eps)
	}))
}

func rmsNormGrad(b *Backend, a *args) func() error {
	rows, h := a.In[0].Dim(0), a.In[0].Dim(1)
	residual := a.Attrs.Bool("residual")
	x, w, rstd, dy, dsum := a.in(true), a.in(true), a.in(true), a.in(true), a.in(residual)
	dx, dw := a.outOrScratch(0, rows*h), a.outOrScratch(1, h)
	zeros, sum := make([]float32, h), newRowSum(a, rows, h)
	return step(b.over(rows, sum.block, func(lo, hi, _ int) {
		var add []float32
		if residual {
			add = dsum[lo*h : hi*h]
		}
		simd.RMSNormGrad(dx[lo*h:hi*h], sum.part(lo), x[lo*h:hi*h], w, rstd[lo:hi], dy[lo*h:hi*h], add, zeros)
	}), func() { sum.total(dw) })
}

// splitWidths are the widths of the three parts of a row.
func splitWidths(a *args) [3]int {
	n := a.Attrs.Int("states")
	return [3]int{a.Attrs.Int("rank"), n, n}
}

// three takes three consecutive inputs where they are there.
func (a *args) three(there bool) (t [3][]float32) {
	for i := range t {
		t[i] = a.in(there)
	}
	return t
}

// partRows are the rows [lo, hi) of three matrices.
func partRows(x [3][]float32, widths [3]int, lo, hi int) [3][]float32 {
	for i, n := range widths {
		x[i] = x[i][lo*n : hi*n]
	}
	return x
}

func splitNorm(b *Backend, a *args) func() error {
	rows, ld := a.In[0].Dim(0), a.In[0].Dim(1)
	norm, eps, widths := a.Attrs.Bool("norm"), float32(a.Attrs.Float("eps")), splitWidths(a)
	p, w := a.in(true), a.three(norm)
	var out [3][]float32
	for i, n := range widths {
		out[i] = a.outOrScratch(i, rows*n)
	}
	var rstd []float32
	if norm {
		rstd = a.outOrScratch(3, 3*rows)
	}
	return step(b.overRows(rows, 4*ld, func(lo, hi, _ int) {
		var r []float32
		if norm {
			r = rstd[3*lo : 3*hi]
		}
		simd.SplitNorm(partRows(out, widths, lo, hi), r, p[lo*ld:hi*ld], w, widths, eps)
	}))
}

func splitNormGrad(b *Backend, a *args) func() error {
	rows, ld := a.In[0].Dim(0), a.In[0].Dim(1)
	norm, widths := a.Attrs.Bool("norm"), splitWidths(a)
	p, w, rstd, dout := a.in(true), a.three(norm), a.in(norm), a.three(true)
	dp := a.outOrScratch(0, rows*ld)
	if !norm {
		return step(b.overRows(rows, ld, func(lo, hi, _ int) {
			simd.SplitNormGrad(dp[lo*ld:hi*ld], w, p[lo*ld:hi*ld], nil, w, partRows(dout, widths, lo, hi), widths)
		}))
	}
	sum := newRowSum(a, rows, ld) // the three gradients side by side
	total := a.scratch(ld)
	cut := func(x []float32) [3][]float32 {
		return [3][]float32{x[:widths[0]], x[widths[0]:][:widths[1]], x[ld-widths[2]:]}
	}
	dw := [3][]float32{a.out(1), a.out(2), a.out(3)}
	return step(b.over(rows, sum.block, func(lo, hi, _ int) {
		simd.SplitNormGrad(dp[lo*ld:hi*ld], cut(sum.part(lo)), p[lo*ld:hi*ld], rstd[3*lo:3*hi], w,
			partRows(dout, widths, lo, hi), widths)
	}), func() {
		sum.total(total)
		for i, part := range cut(total) {
			copy(dw[i], part) // nothing where nobody uses it
		}
	})
}
