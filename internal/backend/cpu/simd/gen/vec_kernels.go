package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// elementwise emits the functions of one or two slices.
func (v target) elementwise() {
	v.unary("silu", func() func(x reg.VecVirtual) { return v.sigmoids().silu })
	v.unary("softplus", func() func(x reg.VecVirtual) { return v.softplus().log1p })
	v.swiglu()
	v.swigluGrad()
	v.binary("axpy", "func(y, x []float32, a float32)", func(p at, a, x, y reg.Register) {
		r := p.load(y)
		VFMADD231PS(p.op(x), a.(reg.VecVirtual), r)
		p.store(r, y)
	})
	v.binary("scale", "func(y, x []float32, a float32)", func(p at, a, x, y reg.Register) {
		r := p.reg()
		VMULPS(p.op(x), a.(reg.VecVirtual), r)
		p.store(r, y)
	})
	v.expScale()
	v.probGrad()
	v.combine2()
	v.add()
	v.prefetch()
}

func (v target) unary(name string, prepare func() func(x reg.VecVirtual)) {
	v.function(name, "func(dst, src []float32)")
	dst, src, n := base("dst"), base("src"), length("dst")
	apply := prepare()
	v.each(n, 2, func(p at) {
		x := p.load(src)
		apply(x)
		p.store(x, dst)
	})
	v.end()
}

func (v target) binary(name, signature string, body func(p at, a, x, y reg.Register)) {
	v.function(name, signature)
	y, x, n, a := base("y"), base("x"), length("y"), v.scalar("a")
	v.each(n, 4, func(p at) { body(p, a, x, y) })
	v.end()
}

func (v target) swiglu() {
	v.function("swiglu", "func(y, gate, up []float32)")
	y, gate, up, n, s := base("y"), base("gate"), base("up"), length("y"), v.sigmoids()
	v.each(n, 2, func(p at) {
		g := p.load(gate)
		s.silu(g)
		VMULPS(p.op(up), g, g)
		p.store(g, y)
	})
	v.end()
}

func (v target) swigluGrad() {
	v.function("swigluGrad", "func(dgate, dup, gate, up, dy []float32)")
	dgate, dup, gate, up, dy := base("dgate"), base("dup"), base("gate"), base("up"), base("dy")
	n, s := length("dgate"), v.sigmoids()
	v.each(n, 2, func(p at) {
		g := p.load(gate)
		sig, grad := s.siluGrad(g)
		d := p.load(dy)
		VMULPS(sig, g, g)
		VMULPS(p.op(up), grad, grad)
		VMULPS(d, grad, grad)
		VMULPS(d, g, g)
		p.store(grad, dgate)
		p.store(g, dup)
	})
	v.end()
}

func (v target) expScale() {
	v.function("expScale", "func(dst, src []float32, shift, factor float32)")
	dst, src, n, shift, factor := base("dst"), base("src"), length("dst"), v.scalar("shift"), v.scalar("factor")
	e := v.exponential()
	v.each(n, 2, func(p at) {
		x := p.load(src)
		VSUBPS(shift, x, x)
		e.apply(x)
		VMULPS(factor, x, x)
		p.store(x, dst)
	})
	v.end()
}

// probGrad replaces scores by probabilities p = e^(p - lse), and the gradients of those by p*(ds - mean).
func (v target) probGrad() {
	v.function("probGrad", "func(p, ds []float32, lse, mean float32)")
	p, ds, n, lse, mean := base("p"), base("ds"), length("p"), v.scalar("lse"), v.scalar("mean")
	e := v.exponential()
	v.each(n, 2, func(at at) {
		x, d := at.load(p), at.load(ds)
		VSUBPS(lse, x, x)
		e.apply(x)
		at.store(x, p)
		VSUBPS(mean, d, d)
		VMULPS(x, d, d)
		at.store(d, ds)
	})
	v.end()
}

func (v target) combine2() {
	v.function("combine2", "func(y, x0, x1 []float32, a0, a1 float32)")
	y, x0, x1, n, a0, a1 := base("y"), base("x0"), base("x1"), length("y"), v.scalar("a0"), v.scalar("a1")
	v.each(n, 4, func(p at) {
		r := p.reg()
		VMULPS(p.op(x0), a0, r)
		VFMADD231PS(p.op(x1), a1, r)
		p.store(r, y)
	})
	v.end()
}

func (v target) add() {
	v.function("add", "func(sum, a, b []float32)")
	sum, a, b, n := base("sum"), base("a"), base("b"), length("sum")
	v.each(n, 4, func(p at) {
		r := p.load(a)
		VADDPS(p.op(b), r, r)
		p.store(r, sum)
	})
	v.end()
}

// reductions emits the sums, each in as many accumulators as its loop is unrolled.
func (v target) reductions() {
	v.reduce("dot", "func(a, b []float32) float32", []string{"a", "b"}, 4, func(p at, acc reg.VecVirtual, in []reg.Register) {
		VFMADD231PS(p.op(in[1]), p.load(in[0]), acc)
	})
	v.reduce("dot3", "func(a, b, c []float32) float32", []string{"a", "b", "c"}, 4, func(p at, acc reg.VecVirtual, in []reg.Register) {
		r := p.load(in[0])
		VMULPS(p.op(in[1]), r, r)
		VFMADD231PS(p.op(in[2]), r, acc)
	})
	v.max()
	v.expSum("expSum", "func(x []float32, shift float32) float32", nil)
	v.expSum("expTo", "func(x []float32, shift float32) float32", at.store)
	v.sumSquares()
}

func (v target) reduce(name, signature string, slices []string, unroll int, body func(p at, acc reg.VecVirtual, in []reg.Register)) {
	v.function(name, signature)
	var in []reg.Register
	for _, s := range slices {
		in = append(in, base(s))
	}
	acc := v.accumulators(unroll)
	v.each(length(slices[0]), unroll, func(p at) { body(p, acc[p.index], in) })
	v.total(acc, VADDPS)
}

func (v target) accumulators(n int) (acc []reg.VecVirtual) {
	for range n {
		acc = append(acc, v.zero())
	}
	return acc
}

// copies are n copies of x.
func (v target) copies(x reg.VecVirtual, n int) (out []reg.VecVirtual) {
	for range n {
		out = append(out, v.copied(x))
	}
	return out
}

// fold combines the accumulators into the first.
func fold(acc []reg.VecVirtual, combine func(ops ...Op)) reg.VecVirtual {
	for n := len(acc); n > 1; n /= 2 {
		for i := range n / 2 {
			combine(acc[i+n/2], acc[i], acc[i])
		}
	}
	return acc[0]
}

// total combines the accumulators, then their lanes, and returns the result.
func (v target) total(acc []reg.VecVirtual, combine func(ops ...Op)) {
	x := v.combined(acc, combine)
	VZEROUPPER()
	Store(x, ReturnIndex(0))
	RET()
}

// combined combines the accumulators, then their lanes, into the first lane of the first.
func (v target) combined(acc []reg.VecVirtual, combine func(ops ...Op)) reg.Register {
	sum := fold(acc, combine)
	y, t := sum.AsY(), YMM()
	if v.wide() {
		VEXTRACTF64X4(Imm(1), sum, t)
		combine(t, y, y)
	}
	x := sum.AsX()
	VEXTRACTF128(Imm(1), y, t.AsX())
	combine(t.AsX(), x, x)
	VPERMILPS(Imm(0b1110), x, t.AsX())
	combine(t.AsX(), x, x)
	VPERMILPS(Imm(1), x, t.AsX())
	combine(t.AsX(), x, x)
	return x
}

func (v target) max() {
	v.function("max", "func(x []float32) float32")
	x, n := base("x"), length("x")
	lowest := v.held(math.Inf(-1))
	acc := v.copies(lowest, 4)
	v.each(n, 4, func(p at) {
		r := p.load(x)
		p.fill(r, lowest)
		VMAXPS(acc[p.index], r, acc[p.index])
	})
	v.total(acc, VMAXPS)
}

// expSum adds up e^(x - shift), which store writes to x if it is not nil.
func (v target) expSum(name, signature string, store func(p at, r reg.VecVirtual, x reg.Register)) {
	v.function(name, signature)
	x, n, shift := base("x"), length("x"), v.scalar("shift")
	e, acc := v.exponential(), v.accumulators(2)
	v.each(n, 2, func(p at) {
		r := p.load(x)
		VSUBPS(shift, r, r)
		e.apply(r)
		if store != nil {
			store(p, r, x)
		}
		p.keep(r)
		VADDPS(r, acc[p.index], acc[p.index])
	})
	v.total(acc, VADDPS)
}

// sumSquares adds in float64: each vector in two halves.
func (v target) sumSquares() {
	v.function("sumSquares", "func(x []float32) float64")
	x, n, acc := base("x"), length("x"), v.accumulators(4)
	v.each(n, 2, func(p at) {
		r := p.load(x)
		lo, hi := v.reg(), v.reg()
		if v.wide() {
			VCVTPS2PD(r.AsY(), lo)
			VEXTRACTF64X4(Imm(1), r, r.AsY())
			VCVTPS2PD(r.AsY(), hi)
		} else {
			VCVTPS2PD(r.AsX(), lo)
			VEXTRACTF128(Imm(1), r, r.AsX())
			VCVTPS2PD(r.AsX(), hi)
		}
		VFMADD231PD(lo, lo, acc[2*p.index])
		VFMADD231PD(hi, hi, acc[2*p.index+1])
	})
	VADDPD(acc[2], acc[0], acc[0])
	VADDPD(acc[3], acc[1], acc[1])
	VADDPD(acc[1], acc[0], acc[0])
	y, t := acc[0].AsY(), YMM()
	if v.wide() {
		VEXTRACTF64X4(Imm(1), acc[0], t)
		VADDPD(t, y, y)
	}
	s := acc[0].AsX()
	VEXTRACTF128(Imm(1), y, t.AsX())
	VADDPD(t.AsX(), s, s)
	VPERMILPD(Imm(1), s, t.AsX())
	VADDSD(t.AsX(), s, s)
	VZEROUPPER()
	Store(s, ReturnIndex(0))
	RET()
}

// prefetch asks for every cache line of x, in order.
func (v target) prefetch() {
	TEXT("prefetch"+v.suffix, NOSPLIT, "func(x []float32)")
	Pragma("noescape")
	x, n, loop, end := base("x"), length("x"), label("loop"), label("end")
	Label(loop)
	SUBQ(Imm(16), n)
	JL(LabelRef(end))
	PREFETCHT0(Mem{Base: x})
	ADDQ(Imm(64), x)
	JMP(LabelRef(loop))
	Label(end)
	RET()
}
