package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func init() {
	register("vec", func() {
		for _, v := range []target{{"AVX512", 16}, {"AVX2", 8}} {
			v.elementwise()
			v.reductions()
			v.norms()
			v.conv()
			v.adamW()
			v.scan()
		}
	})
}

// target is the instruction set that a kernel is emitted for. The same emitter serves both: registers are virtual,
// and only the last vector's mask, powers of two and constants differ.
type target struct {
	suffix string
	lanes  int
}

func (v target) wide() bool { return v.lanes == 16 }

// bytes is the size of a vector.
func (v target) bytes() int { return 4 * v.lanes }

// reg is a new vector register.
func (v target) reg() reg.VecVirtual {
	if v.wide() {
		return ZMM()
	}
	return YMM()
}

// function starts a kernel.
func (v target) function(name, signature string) {
	TEXT(name+v.suffix, NOSPLIT, signature)
	Pragma("noescape")
}

// end ends it: dirty upper halves would slow the scalar code that follows.
func (v target) end() {
	VZEROUPPER()
	RET()
}

// base loads the address of a slice, length its length.
func base(name string) reg.Register { return Load(Param(name).Base(), GP64()) }

func length(name string) reg.Register { return Load(Param(name).Len(), GP64()) }

// scalar broadcasts a float32 parameter.
func (v target) scalar(name string) reg.VecVirtual {
	r := v.reg()
	VBROADCASTSS(memory(name), r)
	return r
}

// zero is a register of zeros.
func (v target) zero() reg.VecVirtual {
	r := v.reg()
	VXORPS(r, r, r)
	return r
}

var constants = map[uint32]Mem{}

// bits is the memory of a constant, eight times over.
func bits(b uint32) Mem {
	m, ok := constants[b]
	if !ok {
		m = GLOBL(fmt.Sprintf("const%08x", b), RODATA|NOPTR)
		for i := range 8 {
			DATA(4*i, U32(b))
		}
		constants[b] = m
	}
	return m
}

// constant is an operand for arithmetic: a register where there are 32 of them, memory otherwise. It is made
// before the loop that uses it.
func (v target) constant(f float64) Op { return v.pattern(math.Float32bits(float32(f))) }

func (v target) pattern(b uint32) Op {
	if v.wide() {
		return v.broadcast(b)
	}
	return bits(b)
}

// held is a constant in a register.
func (v target) held(f float64) reg.VecVirtual { return v.broadcast(math.Float32bits(float32(f))) }

func (v target) broadcast(b uint32) reg.VecVirtual {
	r := v.reg()
	VBROADCASTSS(bits(b), r)
	return r
}

const signBit = 1 << 31

// at is one vector of a loop: where it lies in every slice, and which of its lanes count.
type at struct {
	target
	off   reg.GPVirtual
	disp  int
	mask  Op  // nil: all lanes
	index int // of the vector in an unrolled body
}

var labels int

func label(name string) string {
	labels++
	return fmt.Sprintf("%s%d", name, labels)
}

// each emits body for the vectors of n elements: unrolled, then one at a time, then the masked rest. n is
// consumed.
func (v target) each(n reg.Register, unroll int, body func(p at)) {
	off := GP64()
	XORQ(off, off)
	pass := func(vectors int) {
		loop, done := label("loop"), label("done")
		count := vectors * v.lanes
		SUBQ(I32(count), n)
		JL(LabelRef(done))
		Label(loop)
		for i := range vectors {
			body(at{target: v, off: off, disp: i * v.bytes(), index: i})
		}
		ADDQ(I32(4*count), off)
		SUBQ(I32(count), n)
		JGE(LabelRef(loop))
		Label(done)
		ADDQ(I32(count), n)
	}
	if unroll > 1 {
		pass(unroll)
	}
	pass(1)
	end := label("end")
	TESTQ(n, n)
	JZ(LabelRef(end))
	body(at{target: v, off: off, mask: v.firstLanes(n)})
	Label(end)
}

// firstLanes is the mask of the first n lanes.
func (v target) firstLanes(n reg.Register) Op {
	if v.wide() {
		ones, k := GP64(), K()
		MOVQ(I64(-1), ones)
		BZHIQ(n, ones, ones)
		KMOVW(ones.As32(), k)
		return k
	}
	table := GP64()
	LEAQ(laneMasks(), table)
	NEGQ(n)
	m := YMM()
	VMOVUPS(Mem{Base: table, Index: n, Scale: 4, Disp: 4 * v.lanes}, m)
	return m
}

var lanesTable *Mem

// laneMasks is eight ones, then eight zeros: a window into it starts with any number of ones.
func laneMasks() Mem {
	if lanesTable == nil {
		m := GLOBL("laneMasks", RODATA|NOPTR)
		for i := range 16 {
			DATA(4*i, U32(math.MaxUint32*(1-uint32(i/8))))
		}
		lanesTable = &m
	}
	return *lanesTable
}

func (p at) mem(base reg.Register) Mem { return Mem{Base: base, Index: p.off, Scale: 1, Disp: p.disp} }

// load is a vector of a slice, with zeros in lanes that do not count.
func (p at) load(base reg.Register) reg.VecVirtual { return p.loadFrom(p.mem(base)) }

func (p at) loadFrom(m Mem) reg.VecVirtual {
	r := p.reg()
	switch {
	case p.mask == nil:
		VMOVUPS(m, r)
	case p.wide():
		VMOVUPS_Z(m, p.mask, r)
	default:
		VMASKMOVPS(m, p.mask, r)
	}
	return r
}

// op is load for an instruction that can take its operand from memory.
func (p at) op(base reg.Register) Op { return p.opFrom(p.mem(base)) }

func (p at) opFrom(m Mem) Op {
	if p.mask == nil {
		return m
	}
	return p.loadFrom(m)
}

// store writes the lanes that count.
func (p at) store(r reg.VecVirtual, base reg.Register) { p.storeTo(r, p.mem(base)) }

func (p at) storeTo(r reg.VecVirtual, m Mem) {
	switch {
	case p.mask == nil:
		VMOVUPS(r, m)
	case p.wide():
		VMOVUPS(r, p.mask, m)
	default:
		VMASKMOVPS(r, p.mask, m)
	}
}

// keep sets the lanes that do not count to 0.
func (p at) keep(r reg.VecVirtual) {
	switch {
	case p.mask == nil:
	case p.wide():
		VMOVAPS_Z(r, p.mask, r)
	default:
		VANDPS(p.mask, r, r)
	}
}

// fill sets the lanes that do not count to those of with.
func (p at) fill(r, with reg.VecVirtual) {
	switch {
	case p.mask == nil:
	case p.wide():
		VBLENDMPS(r, with, p.mask, r)
	default:
		VBLENDVPS(p.mask, r, with, r)
	}
}
