package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The kernels of this family go through many short rows in a call.
func init() {
	register("rows", func() {
		for _, v := range []target{{"AVX512", 16}, {"AVX2", 8}} {
			v.normRows()
			v.normRowsGrad()
			v.routing()
			v.assignments()
			v.expSums()
		}
	})
}

// distance loads a number of floats as a number of bytes.
func distance(name string) reg.Register {
	r := Load(Param(name), GP64())
	SHLQ(Imm(2), r)
	return r
}

// bytesOf is the size of n floats.
func bytesOf(n reg.Register) reg.Register {
	r := GP64()
	MOVQ(n, r)
	SHLQ(Imm(2), r)
	return r
}

// rowLoop emits body for the given number of rows, at least one, and then moves each pointer on by its distance.
func rowLoop(rows reg.Register, body func(), pointers ...[2]reg.Register) {
	loop := label("row")
	Label(loop)
	body()
	for _, p := range pointers {
		ADDQ(p[1], p[0])
	}
	DECQ(rows)
	JNZ(LabelRef(loop))
}

// row emits body for the vectors of a row of n elements.
func (v target) row(n reg.Register, body func(p at)) {
	left := GP64()
	MOVQ(n, left)
	v.each(left, 1, body)
}

// save stores r for a later load of the same call. The rest of a row stays in a register: what was stored under a
// mask comes back from the cache alone.
func (p at) save(r, rest reg.VecVirtual, base reg.Register) {
	if p.mask == nil {
		p.store(r, base)
	} else {
		VMOVAPS(r, rest)
	}
}

// saved is what save stored, in a register that may be written.
func (p at) saved(rest reg.VecVirtual, base reg.Register) reg.VecVirtual {
	if p.mask == nil {
		return p.load(base)
	}
	return p.copied(rest)
}

// copied is a copy of x.
func (v target) copied(x reg.VecVirtual) reg.VecVirtual {
	r := v.reg()
	VMOVAPS(x, r)
	return r
}

// normRows norms rows of len(w) elements. A row's sum is one chain of additions: those of the rows overlap.
func (v target) normRows() {
	v.function("normRows", "func(y, rstd, x, w []float32, rows, ldx, ldr int, eps float32)")
	y, rstd, x, w, n := base("y"), base("rstd"), base("x"), base("w"), length("w")
	rows, ldx, ldr, ldy := Load(Param("rows"), GP64()), distance("ldx"), distance("ldr"), bytesOf(n)
	eps, one, inverse := Load(Param("eps"), XMM()), v.held(1), v.inverse(n)
	rowLoop(rows, func() {
		acc := v.accumulators(1)
		v.row(n, func(p at) {
			s := p.load(x)
			VFMADD231PS(s, s, acc[0])
		})
		s, r := v.combined(acc, VADDPS), v.reg()
		VFMADD213SS(eps, inverse, s)
		VSQRTSS(s, s, s)
		VDIVSS(s, one.AsX(), s)
		VMOVSS(s, Mem{Base: rstd})
		VBROADCASTSS(s, r)
		v.row(n, func(p at) {
			s := p.reg()
			VMULPS(p.op(x), r, s)
			VMULPS(p.op(w), s, s)
			p.store(s, y)
		})
	}, [2]reg.Register{y, ldy}, [2]reg.Register{x, ldx}, [2]reg.Register{rstd, ldr})
	v.end()
}

// inverse is 1/n, n being at least 1.
func (v target) inverse(n reg.Register) reg.Register {
	x, one := XMM(), v.held(1)
	VXORPS(x, x, x)
	VCVTSI2SSQ(n, x, x)
	VDIVSS(x, one.AsX(), x)
	return x
}

// normRowsGrad is the gradient of normRows; rows of dx are as far apart as those of x.
func (v target) normRowsGrad() {
	v.function("normRowsGrad", "func(dx, dw, dy, x, w, rstd []float32, rows, ldx, ldr int)")
	dx, dw, dy, x, w, rstd, n := base("dx"), base("dw"), base("dy"), base("x"), base("w"), base("rstd"), length("w")
	rows, ldx, ldr, ldy := Load(Param("rows"), GP64()), distance("ldx"), distance("ldr"), bytesOf(n)
	inverse, rest := v.inverse(n), v.zero()
	v.row(n, func(p at) {
		if p.mask != nil {
			VMOVAPS(p.load(dw), rest)
		}
	})
	rowLoop(rows, func() {
		acc, r, c := v.accumulators(1), v.reg(), v.reg()
		v.row(n, func(p at) {
			s := p.load(dy)
			VMULPS(p.op(x), s, s)
			VFMADD231PS(p.op(w), s, acc[0])
		})
		VBROADCASTSS(Mem{Base: rstd}, r)
		s := v.combined(acc, VADDPS)
		for range 3 {
			VMULSS(r.AsX(), s, s)
		}
		VMULSS(inverse, s, s)
		VBROADCASTSS(s, c)
		v.row(n, func(p at) {
			d, u, g := p.reg(), p.load(x), p.saved(rest, dw)
			VMULPS(p.op(dy), r, d)
			VFMADD231PS(d, u, g)
			p.save(g, rest, dw)
			VMULPS(c, u, u)
			VFMSUB231PS(p.op(w), d, u)
			p.store(u, dx)
		})
	}, [2]reg.Register{dy, ldy}, [2]reg.Register{dx, ldx}, [2]reg.Register{x, ldx}, [2]reg.Register{rstd, ldr})
	v.row(n, func(p at) {
		if p.mask != nil {
			p.store(rest, dw)
		}
	})
	v.end()
}
