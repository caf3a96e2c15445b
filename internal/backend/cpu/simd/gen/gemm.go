package main

import (
	"fmt"
	"slices"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func init() { register("gemm", gemm) }

func gemm() {
	peak("peakAVX512", zmm[:16])
	peak("peakAVX2", ymm[:12])
	for rows := 1; rows <= 14; rows++ {
		microkernel{avx512, rows, 1}.emit()
		microkernel{avx512, rows, 2}.emit()
	}
	for rows := 1; rows <= 9; rows++ {
		microkernel{avx512, rows, 3}.emit()
	}
	maskTable()
	for rows := 1; rows <= 6; rows++ {
		microkernel{avx2, rows, 2}.emit()
	}
	for rows := 1; rows <= 4; rows++ {
		dots(avx512, rows)
	}
	for rows := 1; rows <= 3; rows++ { // four take all 16 registers
		dots(avx2, rows)
	}
	copyAVX512()
	copyAVX2()
	transposeAVX512()
	transposeAVX2()
}

// isa is a vector instruction set.
type isa struct {
	name string
	regs []reg.VecPhysical
	lane int // floats in a register
}

var (
	avx512 = isa{"AVX512", zmm, 16}
	avx2   = isa{"AVX2", ymm, 8}
)

func (s isa) bytes() int { return 4 * s.lane }

func zero(v reg.VecPhysical) {
	if v.ID() < zmm[16].ID() {
		VXORPS(v.AsX(), v.AsX(), v.AsX())
	} else {
		VPXORD(v, v, v)
	}
}

// peak emits a loop of independent multiply-adds that touches no memory: the ceiling of every product.
func peak(name string, acc []reg.VecPhysical) {
	TEXT(name, NOSPLIT, "func(loops int64)")
	Pragma("noescape")
	n := reg.RCX
	Load(Param("loops"), n)
	for _, v := range acc {
		zero(v)
	}
	Label(name + "_loop")
	for _, v := range acc {
		VFMADD231PS(v, v, v)
	}
	DECQ(n)
	JNZ(LabelRef(name + "_loop"))
	VZEROUPPER()
	RET()
}

// microkernel emits gemm<rows>x<columns>: C[rows, cols] (+)= A[rows, kc] B[kc, cols] for cols up to the columns
// of vecs registers. Element (i, k) of A is at a + i*ars + k*acs, row k of B at b + k*ldb, row i of C at
// c + i*ldc, all strides in bytes. Each element of C is one chain of multiply-adds in the order of k, so its
// bits do not depend on rows or vecs.
//
// With each turn it also prefetches a line of either of two streams, at ahead0 and ahead1: memory that later
// calls read, which arrives in the second level's cache without holding this one up.
//
// kc is kTurn*turns + rest. Of the first kTurn*turns rows of B whole vectors are read, of the others cols columns: a
// masked load costs an arithmetic slot on Zen 4, and a branch for every k costs 1 %.
type microkernel struct {
	isa
	rows, vecs int
}

// kTurn is the number of k in a turn of the loop. Twice as many prefetches keep the buffers for misses so busy that
// the Xeon's loads of B from the second level wait for them.
const kTurn = 4

// General registers of a microkernel. Each pointer to rows of A serves several by the index ars: see rowOf.
var (
	countReg, bReg, arsReg, acsReg = reg.RCX, reg.RBX, reg.RSI, reg.RDI
	aPtr                           = []reg.GPPhysical{reg.RAX, reg.RDX, reg.R8, reg.R9}
	cReg, ldcReg                   = reg.R11, reg.R12
	aheadReg                       = []reg.GPPhysical{reg.R10, reg.R13}
)

// aRow is the row that each pointer to rows of A stands at: with 0, 1, 2, 4 and 8 times ars they reach 14 rows.
var aRow = []int{0, 3, 4, 9}

// rowOf is the place of an element of A in a row.
func rowOf(row int) Mem {
	for i, first := range aRow {
		switch d := row - first; d {
		case 0:
			return Mem{Base: aPtr[i]}
		case 1, 2, 4, 8:
			return Mem{Base: aPtr[i], Index: arsReg, Scale: uint8(d)}
		}
	}
	panic(fmt.Sprintf("no pointer reaches row %d", row))
}

// The vector registers: accumulators from 0, then the row of B, then two for broadcast elements of A.
func (m microkernel) acc(row, v int) reg.VecPhysical { return m.regs[row*m.vecs+v] }
func (m microkernel) b(v int) reg.VecPhysical        { return m.regs[len(m.regs)-2-m.vecs+v] }
func (m microkernel) bcast(row int) reg.VecPhysical  { return m.regs[len(m.regs)-2+row%2] }

func (m microkernel) emit() {
	name := fmt.Sprintf("gemm%dx%d%s", m.rows, m.vecs*m.lane, m.name)
	TEXT(name, NOSPLIT, "func(turns int64, rest int64, a *float32, ars int64, acs int64, b *float32, ldb int64, c *float32, ldc int64, cols int64, acc int64, ahead0 uintptr, step0 int64, ahead1 uintptr, step1 int64, last0 uintptr)")
	Pragma("noescape")
	m.arguments()
	for row := range m.rows {
		for v := range m.vecs {
			zero(m.acc(row, v))
		}
	}
	m.columnMasks()
	m.startPrefetch()
	for _, l := range []struct {
		count string
		steps int
	}{{"turns", kTurn}, {"rest", 1}} {
		Load(Param(l.count), countReg)
		TESTQ(countReg, countReg)
		JZ(LabelRef(name + "_no_" + l.count))
		Label(name + "_" + l.count)
		for i := range l.steps {
			m.step(l.steps == 1)
			if i == kTurn/2 {
				m.lookAhead(0)
			}
		}
		if l.steps > 1 {
			m.prefetch()
		}
		DECQ(countReg)
		JNZ(LabelRef(name + "_" + l.count))
		Label(name + "_no_" + l.count)
	}
	m.store(name)
}

func (m microkernel) arguments() {
	Load(Param("a"), aPtr[0])
	Load(Param("ars"), arsReg)
	Load(Param("acs"), acsReg)
	Load(Param("b"), bReg)
	Load(Param("c"), cReg)
	Load(Param("ldc"), ldcReg)
	for i := 1; i < m.pointers(); i++ {
		switch aRow[i] {
		case 3:
			LEAQ(Mem{Base: arsReg, Index: arsReg, Scale: 2}, aPtr[i])
			ADDQ(aPtr[0], aPtr[i])
		case 4:
			LEAQ(Mem{Base: aPtr[0], Index: arsReg, Scale: 4}, aPtr[i])
		case 9:
			LEAQ(Mem{Base: aPtr[0], Index: arsReg, Scale: 8}, aPtr[i])
			ADDQ(arsReg, aPtr[i])
		}
	}
	for i, r := range aheadReg {
		Load(Param(fmt.Sprintf("ahead%d", i)), r)
	}
}

// Registers of the prefetch of C.
var nextReg, lastReg = reg.R14, reg.R15

// startPrefetch and prefetch fetch a row of C with each turn, until the last, so that C has arrived when it is
// written: all at once they would hold up the loads of A and B, which share the buffers for misses.
func (m microkernel) startPrefetch() {
	MOVQ(cReg, nextReg)
	MOVQ(ldcReg, lastReg)
	IMUL3Q(Imm(uint64(m.rows-1)), lastReg, lastReg)
	ADDQ(cReg, lastReg)
}

func (m microkernel) prefetch() {
	for line := 0; line < m.vecs*m.bytes(); line += 64 {
		PREFETCHT0(Mem{Base: nextReg, Disp: line})
	}
	ADDQ(ldcReg, nextReg)
	CMPQ(nextReg, lastReg)
	CMOVQHI(lastReg, nextReg)
	m.lookAhead(1)
}

// lookAhead fetches a line of a stream; the first stays at its last line.
func (m microkernel) lookAhead(stream int) {
	at := aheadReg[stream]
	PREFETCHT1(Mem{Base: at})
	ADDQ(memory(fmt.Sprintf("step%d", stream)), at)
	if stream == 0 {
		CMPQ(at, memory("last0"))
		CMOVQHI(memory("last0"), at)
	}
}

// pointers is the number of pointers that the rows need.
func (m microkernel) pointers() int {
	n := 0
	for row := range m.rows {
		n = max(n, 1+slices.Index(aPtr, rowOf(row).Base.(reg.GPPhysical)))
	}
	return n
}

// step does one k.
func (m microkernel) step(masked bool) {
	for v := range m.vecs {
		src := Mem{Base: bReg, Disp: v * m.bytes()}
		if masked && m.name == avx512.name {
			VMOVUPS_Z(src, kmask[v], m.b(v))
		} else {
			VMOVUPS(src, m.b(v))
		}
	}
	ADDQ(memory("ldb"), bReg)
	for row := range m.rows {
		VBROADCASTSS(rowOf(row), m.bcast(row))
		for v := range m.vecs {
			VFMADD231PS(m.b(v), m.bcast(row), m.acc(row, v))
		}
	}
	for i := range m.pointers() {
		ADDQ(acsReg, aPtr[i])
	}
}

// store writes the accumulators to C, or adds them. On AVX2 masked moves are slow, so whole rows have their own
// way.
func (m microkernel) store(name string) {
	if m.name == avx2.name {
		cols := reg.RAX
		Load(Param("cols"), cols)
		CMPQ(cols, Imm(uint64(m.vecs*m.lane)))
		JNE(LabelRef(name + "_part"))
		m.addOrStore(name+"_whole", false)
		Label(name + "_part")
		m.maskRegisters()
	}
	m.addOrStore(name, true)
}

func (m microkernel) addOrStore(name string, masked bool) {
	flag := reg.RAX
	Load(Param("acc"), flag)
	TESTQ(flag, flag)
	JZ(LabelRef(name + "_store"))
	for _, add := range []bool{true, false} {
		if !add {
			Label(name + "_store")
		}
		for row := range m.rows {
			for v := range m.vecs {
				m.storeVector(m.acc(row, v), Mem{Base: cReg, Disp: v * m.bytes()}, v, add, masked)
			}
			if row < m.rows-1 {
				ADDQ(ldcReg, cReg)
			}
		}
		VZEROUPPER()
		RET()
	}
}

func (m microkernel) storeVector(acc reg.VecPhysical, dst Mem, v int, add, masked bool) {
	old := m.bcast(v)
	switch {
	case !masked:
		if add {
			VADDPS(dst, acc, acc)
		}
		VMOVUPS(acc, dst)
	case m.name == avx512.name:
		if add {
			VMOVUPS_Z(dst, kmask[v], old)
			VADDPS(old, acc, acc)
		}
		VMOVUPS(acc, kmask[v], dst)
	default:
		if add {
			VMASKMOVPS(dst, m.b(v), old)
			VADDPS(old, acc, acc)
		}
		VMASKMOVPS(acc, m.b(v), dst)
	}
}

var kmask = []reg.OpmaskPhysical{reg.K1, reg.K2, reg.K3}

// columnMasks sets a mask register for each vector of a row from the number of columns (AVX-512 only: on AVX2
// rows of B are always whole, because they are packed).
func (m microkernel) columnMasks() {
	if m.name != avx512.name {
		return
	}
	n, bits := reg.R14, reg.R15
	Load(Param("cols"), n)
	MOVQ(I32(-1), bits)
	BZHIQ(n, bits, bits)
	for v := range m.vecs {
		KMOVW(bits.As32(), kmask[v])
		if v < m.vecs-1 {
			SHRQ(Imm(16), bits)
		}
	}
}

var masks Mem

// maskTable holds 16 ones and 16 zeros: read from column 16-n on, they are the mask of the first n columns.
func maskTable() {
	masks = GLOBL("columnMasks", RODATA|NOPTR)
	for i := range 32 {
		bits := uint32(0)
		if i < 16 {
			bits = 0xffffffff
		}
		DATA(4*i, U32(bits))
	}
}

// maskRegisters loads the AVX2 column masks into the registers of B.
func (m microkernel) maskRegisters() {
	n, table := reg.RAX, reg.RDX
	Load(Param("cols"), n)
	NEGQ(n)
	LEAQ(masks.Offset(64), table)
	for v := range m.vecs {
		VMOVUPS(Mem{Base: table, Index: n, Scale: 4, Disp: v * m.bytes()}, m.b(v))
	}
}
