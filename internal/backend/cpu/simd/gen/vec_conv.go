package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The convolution has four taps. Its kernels come in two forms: one row, whose taps may lie anywhere, for the
// starts of documents; and four rows at once with rows of inputs that follow each other, so that inputs and
// weights are loaded once for four outputs.
func (v target) conv() {
	v.conv4()
	v.conv4Grad()
	v.conv4Weights()
	v.fir4()
	v.conv4x4()
	v.conv4x4Grad()
	v.conv4x4Weights()
	v.fir4x4()
}

// strides are the distances of one and three rows of n elements.
type strides struct{ one, three reg.Register }

func newStrides(n reg.Register) strides {
	s := strides{GP64(), GP64()}
	MOVQ(n, s.one)
	SHLQ(Imm(2), s.one)
	LEAQ(Mem{Base: s.one, Index: s.one, Scale: 2}, s.three)
	return s
}

// rows are the places at p in the first rows of a matrix, up to eight.
func (s strides) rows(p at, base reg.Register, count int) (rows []place) {
	for len(rows) < count {
		here := GP64()
		LEAQ(p.mem(base), here)
		for range len(rows) / 4 {
			LEAQ(Mem{Base: here, Index: s.one, Scale: 4}, here)
		}
		for _, m := range s.fourFrom(here) {
			rows = append(rows, place{p, m})
		}
	}
	return rows[:count]
}

// place is a vector at an address of its own.
type place struct {
	at
	addr Mem
}

func (p place) load() reg.VecVirtual   { return p.loadFrom(p.addr) }
func (p place) op() Op                 { return p.opFrom(p.addr) }
func (p place) store(r reg.VecVirtual) { p.storeTo(r, p.addr) }

// prefetch asks for the places in the given row, a multiple of four or three more, and the three after it: what
// the next call will use. Four rows side by side are too many streams for the hardware to follow.
func (s strides) prefetch(p at, base reg.Register, row int) {
	if p.mask != nil {
		return
	}
	here := GP64()
	LEAQ(p.mem(base), here)
	for range row / 4 {
		LEAQ(Mem{Base: here, Index: s.one, Scale: 4}, here)
	}
	if row%4 == 3 {
		ADDQ(s.three, here)
	}
	for _, m := range s.fourFrom(here) {
		PREFETCHT0(m)
	}
}

// fourFrom are the addresses of four rows from here on.
func (s strides) fourFrom(here reg.Register) [4]Mem {
	return [4]Mem{{Base: here}, {Base: here, Index: s.one, Scale: 1}, {Base: here, Index: s.one, Scale: 2}, {Base: here, Index: s.three, Scale: 1}}
}

// operands are vectors that are used several times: loaded once where there are registers for that.
func operands(rows []place) func(i int) Op {
	if !rows[0].wide() {
		return func(i int) Op { return rows[i].op() }
	}
	regs := loads(rows)
	return func(i int) Op { return regs[i] }
}

// loads are vectors in registers.
func loads(rows []place) (out []reg.VecVirtual) {
	for _, r := range rows {
		out = append(out, r.load())
	}
	return out
}

// bases are the addresses of several slices.
func bases(names ...string) (x []reg.Register) {
	for _, name := range names {
		x = append(x, base(name))
	}
	return x
}

// preActivation is b + sum_q w[q] x[q].
func preActivation(p at, b reg.Register, w []place, x []reg.Register) reg.VecVirtual {
	sum := p.load(b)
	for q, row := range w {
		VFMADD231PS(row.op(), p.load(x[q]), sum)
	}
	return sum
}

func (v target) conv4() {
	v.function("conv4", "func(y, x0, x1, x2, x3, w, b []float32)")
	y, x, w, b, n := base("y"), bases("x0", "x1", "x2", "x3"), base("w"), base("b"), length("y")
	ld, s := newStrides(n), v.sigmoids()
	v.each(n, 1, func(p at) {
		sum := preActivation(p, b, ld.rows(p, w, 4), x)
		s.silu(sum)
		p.store(sum, y)
	})
	v.end()
}

func (v target) conv4Grad() {
	v.function("conv4Grad", "func(dpre, dy, x0, x1, x2, x3, w, b []float32)")
	dpre, dy, x, w, b, n := base("dpre"), base("dy"), bases("x0", "x1", "x2", "x3"), base("w"), base("b"), length("dpre")
	ld, s := newStrides(n), v.sigmoids()
	v.each(n, 1, func(p at) {
		_, grad := s.siluGrad(preActivation(p, b, ld.rows(p, w, 4), x))
		VMULPS(p.op(dy), grad, grad)
		p.store(grad, dpre)
	})
	v.end()
}

func (v target) conv4Weights() {
	v.function("conv4Weights", "func(dw, db, dpre, x0, x1, x2, x3 []float32)")
	dw, db, dpre, x, n := base("dw"), base("db"), base("dpre"), bases("x0", "x1", "x2", "x3"), length("dpre")
	ld := newStrides(n)
	v.each(n, 1, func(p at) {
		d, sum := p.load(dpre), p.load(db)
		VADDPS(d, sum, sum)
		p.store(sum, db)
		for q, row := range ld.rows(p, dw, 4) {
			g := row.load()
			VFMADD231PS(p.op(x[q]), d, g)
			row.store(g)
		}
	})
	v.end()
}

func (v target) fir4() {
	v.function("fir4", "func(dx, d0, d1, d2, d3, w []float32)")
	dx, d, w, n := base("dx"), bases("d3", "d2", "d1", "d0"), base("w"), length("dx")
	ld := newStrides(n)
	v.each(n, 1, func(p at) {
		sum := p.zero()
		for q, row := range ld.rows(p, w, 4) {
			VFMADD231PS(row.op(), p.load(d[q]), sum)
		}
		p.store(sum, dx)
	})
	v.end()
}

// preActivations are those of four rows with inputs x, the first three rows before them.
func (v target) preActivations(p at, ld strides, b, w, x reg.Register, f func(row int, sum reg.VecVirtual)) {
	bias, taps, in := p.op(b), loads(ld.rows(p, w, 4)), operands(ld.rows(p, x, 7))
	for r := range 4 {
		sum := v.reg()
		VMOVUPS(bias, sum)
		for q, tap := range taps {
			VFMADD231PS(in(r+q), tap, sum)
		}
		f(r, sum)
	}
}

// conv4x4 is conv4 for four rows: y[4,n], x[7,n].
func (v target) conv4x4() {
	v.function("conv4x4", "func(y, x, w, b []float32)")
	y, x, w, b, n := base("y"), base("x"), base("w"), base("b"), length("b")
	ld, s := newStrides(n), v.sigmoids()
	v.each(n, 1, func(p at) {
		ld.prefetch(p, x, 7)
		ld.prefetch(p, y, 4)
		out := ld.rows(p, y, 4)
		v.preActivations(p, ld, b, w, x, func(row int, sum reg.VecVirtual) {
			s.silu(sum)
			out[row].store(sum)
		})
	})
	v.end()
}

// conv4x4Grad is conv4Grad for four rows: dpre[4,n], dy[4,n], x[7,n].
func (v target) conv4x4Grad() {
	v.function("conv4x4Grad", "func(dpre, dy, x, w, b []float32)")
	dpre, dy, x, w, b, n := base("dpre"), base("dy"), base("x"), base("w"), base("b"), length("b")
	ld, s := newStrides(n), v.sigmoids()
	v.each(n, 1, func(p at) {
		ld.prefetch(p, x, 7)
		ld.prefetch(p, dy, 4)
		out, in := ld.rows(p, dpre, 4), ld.rows(p, dy, 4)
		v.preActivations(p, ld, b, w, x, func(row int, sum reg.VecVirtual) {
			_, grad := s.siluGrad(sum)
			VMULPS(in[row].op(), grad, grad)
			out[row].store(grad)
		})
	})
	v.end()
}

// conv4x4Weights is conv4Weights for four rows: dpre[4,n], x[7,n].
func (v target) conv4x4Weights() {
	v.function("conv4x4Weights", "func(dw, db, dpre, x []float32)")
	dw, db, dpre, x, n := base("dw"), base("db"), base("dpre"), base("x"), length("db")
	ld := newStrides(n)
	v.each(n, 1, func(p at) {
		d, in := loads(ld.rows(p, dpre, 4)), operands(ld.rows(p, x, 7))
		sum := p.load(db)
		for _, row := range d {
			VADDPS(row, sum, sum)
		}
		p.store(sum, db)
		for q, weight := range ld.rows(p, dw, 4) {
			g := weight.load()
			for r, row := range d {
				VFMADD231PS(in(r+q), row, g)
			}
			weight.store(g)
		}
	})
	v.end()
}

// fir4x4 is fir4 for four rows: dx[4,n], d[7,n].
func (v target) fir4x4() {
	v.function("fir4x4", "func(dx, d, w []float32)")
	dx, d, w, n := base("dx"), base("d"), base("w"), length("w")
	SHRQ(Imm(2), n)
	ld := newStrides(n)
	v.each(n, 1, func(p at) {
		ld.prefetch(p, dx, 4)
		taps, in := loads(ld.rows(p, w, 4)), operands(ld.rows(p, d, 7))
		for r, out := range ld.rows(p, dx, 4) {
			sum := v.reg()
			VMULPS(in(r), taps[3], sum)
			for q := 1; q < 4; q++ {
				VFMADD231PS(in(r+q), taps[3-q], sum)
			}
			out.store(sum)
		}
	})
	v.end()
}
