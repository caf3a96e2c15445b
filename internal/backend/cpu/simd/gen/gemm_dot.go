package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// dots emits dots<rows>: out[4*i + j] = x_i . w_j for rows rows of x and up to four of w, of k elements each.
// Strides in bytes. Rows of w from cols on are copies of the last one.
func dots(s isa, rows int) {
	name := fmt.Sprintf("dots%d%s", rows, s.name)
	TEXT(name, NOSPLIT, "func(k int64, x *float32, ldx int64, w *float32, ldw int64, cols int64, out *[16]float32)")
	Pragma("noescape")
	x := []reg.GPPhysical{reg.RAX, reg.RBX, reg.RDX, reg.RSI}
	w := []reg.GPPhysical{reg.R8, reg.R9, reg.R10, reg.R11}
	k, step, cols, none, off := reg.RCX, reg.R12, reg.R13, reg.RDI, reg.RDI
	Load(Param("k"), k)
	Load(Param("x"), x[0])
	Load(Param("ldx"), step)
	for i := 1; i < rows; i++ {
		LEAQ(Mem{Base: x[i-1], Index: step, Scale: 1}, x[i])
	}
	Load(Param("w"), w[0])
	Load(Param("ldw"), step)
	Load(Param("cols"), cols)
	XORQ(none, none)
	for j := 1; j < 4; j++ {
		CMPQ(cols, Imm(uint64(j)))
		CMOVQLE(none, step)
		LEAQ(Mem{Base: w[j-1], Index: step, Scale: 1}, w[j])
	}
	d := dotKernel{s, rows, x, w, off}
	for i := range 4 * rows {
		zero(d.regs[i])
	}
	XORQ(off, off)
	SUBQ(Imm(uint64(s.lane)), k)
	JL(LabelRef(name + "_tail"))
	Label(name + "_loop")
	d.step(func(m Mem, v reg.VecPhysical) { VMOVUPS(m, v) })
	ADDQ(Imm(uint64(s.bytes())), off)
	SUBQ(Imm(uint64(s.lane)), k)
	JGE(LabelRef(name + "_loop"))
	Label(name + "_tail")
	ADDQ(Imm(uint64(s.lane)), k)
	JZ(LabelRef(name + "_sum"))
	if s.name == avx512.name {
		lowMask(k, step, reg.K1)
		d.step(func(m Mem, v reg.VecPhysical) { VMOVUPS_Z(m, reg.K1, v) })
	} else {
		NEGQ(k)
		LEAQ(masks.Offset(64), step)
		VMOVUPS(Mem{Base: step, Index: k, Scale: 4}, d.mask())
		d.step(func(m Mem, v reg.VecPhysical) { VMASKMOVPS(m, d.mask(), v) })
	}
	Label(name + "_sum")
	d.sum()
}

type dotKernel struct {
	isa
	rows int
	x, w []reg.GPPhysical
	off  reg.GPPhysical
}

func (d dotKernel) acc(i, j int) reg.VecPhysical { return d.regs[4*i+j] }

// mask is the register of the AVX2 tail mask.
func (d dotKernel) mask() reg.VecPhysical { return d.regs[len(d.regs)-3] }

func (d dotKernel) step(load func(Mem, reg.VecPhysical)) {
	// The rows with fewer registers in use stay, the others are read as they are needed.
	n := len(d.regs)
	if d.name == avx512.name {
		for i := range d.rows {
			load(Mem{Base: d.x[i], Index: d.off, Scale: 1}, d.regs[n-4+i])
		}
		for j := range 4 {
			load(Mem{Base: d.w[j], Index: d.off, Scale: 1}, d.regs[n-6+j%2])
			for i := range d.rows {
				VFMADD231PS(d.regs[n-6+j%2], d.regs[n-4+i], d.acc(i, j))
			}
		}
		return
	}
	for i := range d.rows {
		load(Mem{Base: d.x[i], Index: d.off, Scale: 1}, d.regs[n-1])
		for j := range 4 {
			load(Mem{Base: d.w[j], Index: d.off, Scale: 1}, d.regs[n-2])
			VFMADD231PS(d.regs[n-2], d.regs[n-1], d.acc(i, j))
		}
	}
}

// sum adds the lanes of each accumulator, in a fixed tree, and writes the results.
func (d dotKernel) sum() {
	out := reg.R12
	Load(Param("out"), out)
	t := d.regs[len(d.regs)-1]
	for i := range d.rows {
		for j := range 4 {
			a := d.acc(i, j)
			if d.name == avx512.name {
				VEXTRACTF64X4(Imm(1), a, t.AsY())
				VADDPS(t.AsY(), a.AsY(), a.AsY())
			}
		}
		a := [4]reg.Register{d.acc(i, 0).AsY(), d.acc(i, 1).AsY(), d.acc(i, 2).AsY(), d.acc(i, 3).AsY()}
		VHADDPS(a[1], a[0], a[0])
		VHADDPS(a[3], a[2], a[2])
		VHADDPS(a[2], a[0], a[0])
		VEXTRACTF128(Imm(1), a[0], d.acc(i, 1).AsX())
		VADDPS(d.acc(i, 1).AsX(), d.acc(i, 0).AsX(), d.acc(i, 0).AsX())
		VMOVUPS(d.acc(i, 0).AsX(), Mem{Base: out, Disp: 16 * i})
	}
	VZEROUPPER()
	RET()
}
