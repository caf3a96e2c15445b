package main

import (
	. "github.com/mmcloughlin/avo/build"
)

// norms emits the loops over one row of a norm.
func (v target) norms() {
	v.norm()
	v.normGrad()
}

func (v target) norm() {
	v.function("norm", "func(y, x, w []float32, r float32)")
	y, x, w, n, r := base("y"), base("x"), base("w"), length("y"), v.scalar("r")
	v.each(n, 4, func(p at) {
		s := p.reg()
		VMULPS(p.op(x), r, s)
		VMULPS(p.op(w), s, s)
		p.store(s, y)
	})
	v.end()
}

func (v target) normGrad() {
	v.function("normGrad", "func(dx, dw, dy, x, w, dsum []float32, r, c float32)")
	dx, dw, dy, x, w, dsum := base("dx"), base("dw"), base("dy"), base("x"), base("w"), base("dsum")
	n, r, c := length("dx"), v.scalar("r"), v.scalar("c")
	v.each(n, 2, func(p at) {
		d, u, g, s := p.reg(), p.load(x), p.load(dw), p.load(dsum)
		VMULPS(p.op(dy), r, d)
		VFMADD231PS(d, u, g)
		p.store(g, dw)
		VFMADD231PS(p.op(w), d, s)
		VFNMADD231PS(c, u, s)
		p.store(s, dx)
	})
	v.end()
}

func (v target) adamW() {
	v.function("adamW", "func(p, m, v, g []float32, scale, decay, beta1c, beta2, beta2c, root, eps, step float32)")
	pp, mm, vv, gg, n := base("p"), base("m"), base("v"), base("g"), length("p")
	scale, decay, beta1c, beta2 := v.scalar("scale"), v.scalar("decay"), v.scalar("beta1c"), v.scalar("beta2")
	beta2c, root, eps, step := v.scalar("beta2c"), v.scalar("root"), v.scalar("eps"), v.scalar("step")
	v.each(n, 1, func(p at) {
		g, m, s, w := p.load(gg), p.load(mm), p.load(vv), p.load(pp)
		VMULPS(scale, g, g)
		t := p.reg()
		VSUBPS(m, g, t)
		VFMADD231PS(t, beta1c, m)
		p.store(m, mm)
		VMULPS(g, g, g)
		VMULPS(beta2c, g, g)
		VFMADD213PS(g, beta2, s)
		p.store(s, vv)
		VSQRTPS(s, s)
		VFMADD213PS(eps, root, s)
		VMULPS(step, m, m)
		VDIVPS(s, m, m)
		VMULPS(decay, w, w)
		VSUBPS(m, w, w)
		p.store(w, pp)
	})
	v.end()
}
