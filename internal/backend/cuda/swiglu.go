package cuda

func init() {
	register("swiglu", swiglu)
	register("swiglu_grad", swigluGrad)
}

func swiglu(a *args) {
	gu, y := a.In[0], a.out(0)
	rows, n := gu.Dim(0), gu.Dim(1)/2
	vec, width := vector(n, gu, y)
	a.file("swiglu", typed("GU", gu), typed("Y", y), typed("DGU", nil), vec).launch("swiglu", overRows(rows, n/width), y, gu, rows, n)
}

func swigluGrad(a *args) {
	gu, dy, dgu := a.In[0], a.In[1], a.out(0)
	rows, n := gu.Dim(0), gu.Dim(1)/2
	vec, width := vector(n, gu, dy, dgu)
	a.file("swiglu", typed("GU", gu), typed("Y", dy), typed("DGU", dgu), vec).
		launch("swiglu_grad", overRows(rows, n/width), dgu, gu, dy, rows, n)
}
