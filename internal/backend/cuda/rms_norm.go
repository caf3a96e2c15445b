package cuda

func init() {
	register("rms_norm", rmsNorm)
	register("rms_norm_grad", rmsNormGrad)
}

func rmsNorm(a *args) {
	residual := a.Attrs.Bool("residual")
	x, delta, w := a.in(true), a.in(residual), a.in(true)
	y, rstd, sum := a.out(0), a.out(1), a.out(2)
	rows, h := x.Dim(0), x.Dim(1)
	vec, width := vector(h, x, delta, w, y, sum)
	a.file("norm", typed("X", x), typed("DELTA", delta), typed("W", w), typed("Y", y), typed("SUM", sum), vec, constant("ITEMS", 1)).
		launch("rms_norm", aRow(rows, h/width), y, rstd, sum, x, delta, w, h, float32(a.Attrs.Float("eps")))
}

func rmsNormGrad(a *args) {
	x, w, rstd, dy, dsum := a.in(true), a.in(true), a.in(true), a.in(true), a.in(a.Attrs.Bool("residual"))
	dx, dw := a.out(0), a.out(1)
	rows, h := x.Dim(0), x.Dim(1)
	parts, each := rowParts(rows, mostParts)
	sums := a.scratch(parts * h)
	vec, width := vector(h, x, w, dy, dsum, dx)
	g := aRow(parts, h/width)
	items := constant("ITEMS", blocks(h/width, g.threads))
	a.file("norm", typed("X", x), typed("W", w), typed("DY", dy), typed("DSUM", dsum), typed("DX", dx), vec, items).
		launch("rms_norm_grad", g, dx, sums, x, w, rstd, dy, dsum, rows, each, h)
	a.sumParts(dw, sums, parts, h, h)
}
