package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// rows emits the loops over one row of a norm or a convolution.
func (v target) rows() {
	v.norm()
	v.normGrad()
	v.conv4()
	v.conv4Grad()
	v.conv4Weights()
	v.fir4()
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

// taps are the rows of a [4,n] matrix: they share a pointer, as there are not enough registers for four.
type taps struct{ base, n4, n12, here reg.Register }

func newTaps(name string, n reg.Register) taps {
	t := taps{base: base(name), n4: GP64(), n12: GP64(), here: GP64()}
	MOVQ(n, t.n4)
	SHLQ(Imm(2), t.n4)
	LEAQ(Mem{Base: t.n4, Index: t.n4, Scale: 2}, t.n12)
	return t
}

// rows are the places of the four rows at p, which are good until the next call.
func (t taps) rows(p at) [4]at4 {
	LEAQ(p.mem(t.base), t.here)
	return [4]at4{{p, Mem{Base: t.here}}, {p, Mem{Base: t.here, Index: t.n4, Scale: 1}},
		{p, Mem{Base: t.here, Index: t.n4, Scale: 2}}, {p, Mem{Base: t.here, Index: t.n12, Scale: 1}}}
}

// at4 is a vector at an address of its own.
type at4 struct {
	at
	addr Mem
}

func (p at4) load() reg.VecVirtual   { return p.loadFrom(p.addr) }
func (p at4) op() Op                 { return p.opFrom(p.addr) }
func (p at4) store(r reg.VecVirtual) { p.storeTo(r, p.addr) }

// inputs are the addresses of the inputs that the four taps see.
func inputs(names ...string) (x []reg.Register) {
	for _, name := range names {
		x = append(x, base(name))
	}
	return x
}

// preActivation is b + sum_q w[q] x[q].
func preActivation(p at, b reg.Register, w taps, x []reg.Register) reg.VecVirtual {
	sum := p.load(b)
	for q, row := range w.rows(p) {
		VFMADD231PS(row.op(), p.load(x[q]), sum)
	}
	return sum
}

func (v target) conv4() {
	v.function("conv4", "func(y, x0, x1, x2, x3, w, b []float32)")
	y, x, b, n := base("y"), inputs("x0", "x1", "x2", "x3"), base("b"), length("y")
	w, s := newTaps("w", n), v.sigmoids()
	v.each(n, 2, func(p at) {
		sum := preActivation(p, b, w, x)
		s.silu(sum)
		p.store(sum, y)
	})
	v.end()
}

func (v target) conv4Grad() {
	v.function("conv4Grad", "func(dpre, dy, x0, x1, x2, x3, w, b []float32)")
	dpre, dy, x, b, n := base("dpre"), base("dy"), inputs("x0", "x1", "x2", "x3"), base("b"), length("dpre")
	w, s := newTaps("w", n), v.sigmoids()
	v.each(n, 2, func(p at) {
		_, grad := s.siluGrad(preActivation(p, b, w, x))
		VMULPS(p.op(dy), grad, grad)
		p.store(grad, dpre)
	})
	v.end()
}

func (v target) conv4Weights() {
	v.function("conv4Weights", "func(dw, db, dpre, x0, x1, x2, x3 []float32)")
	db, dpre, x, n := base("db"), base("dpre"), inputs("x0", "x1", "x2", "x3"), length("dpre")
	dw := newTaps("dw", n)
	v.each(n, 2, func(p at) {
		d, sum := p.load(dpre), p.load(db)
		VADDPS(d, sum, sum)
		p.store(sum, db)
		for q, row := range dw.rows(p) {
			g := row.load()
			VFMADD231PS(p.op(x[q]), d, g)
			row.store(g)
		}
	})
	v.end()
}

func (v target) fir4() {
	v.function("fir4", "func(dx, d0, d1, d2, d3, w []float32)")
	dx, d, n := base("dx"), inputs("d3", "d2", "d1", "d0"), length("dx")
	w := newTaps("w", n)
	v.each(n, 2, func(p at) {
		sum := p.zero()
		for q, row := range w.rows(p) {
			VFMADD231PS(row.op(), p.load(d[q]), sum)
		}
		p.store(sum, dx)
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
