package cuda

func init() {
	register("sum_squares", sumSquares)
	register("adamw", adamW)
	register("narrow", narrow)
}

func sumSquares(a *args) {
	x, sum := a.In[0], a.out(0)
	vec, width := vector(x.Size(), x)
	g := flat(x.Size(), width)
	parts := a.scratch(2 * max(g.x, 1)) // of doubles
	f := a.file("optimizer", typed("G", x), vec)
	f.launch("square_parts", g, parts, x, x.Size())
	f.launch("square_total", grid{x: 1, threads: 1024}, sum, parts, g.x)
}

func adamW(a *args) {
	p, m, v, g := a.In[0], a.In[1], a.In[2], a.In[3]
	second := a.out(3)
	attr := func(name string) float32 { return float32(a.Attrs.Float(name)) }
	vec, width := vector(p.Size(), p, m, v, g, second)
	a.file("optimizer", typed("G", g), typed("NARROW", second), vec).launch("adamw", flat(p.Size(), width), p, m, v, second, g, a.In[4], a.In[5], p.Size(),
		attr("beta1"), attr("beta2"), attr("eps"), attr("weight_decay"), attr("clip"))
}

func narrow(a *args) { a.convert(a.In[0], a.out(0)) }
