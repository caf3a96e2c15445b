package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// columnBlocks emits body for the experts, eight at a time: off is where they lie in a row and column in columns.
// The mask is of a last block of fewer.
func (v target) columnBlocks(experts, columns reg.Register, body func(off, column reg.Register, mask Op)) {
	off, column, left := GP64(), GP64(), GP64()
	loop, rest, end := label("block"), label("rest"), label("end")
	XORQ(off, off)
	MOVQ(columns, column)
	MOVQ(experts, left)
	SUBQ(Imm(8), left)
	JL(LabelRef(rest))
	Label(loop)
	body(off, column, nil)
	ADDQ(Imm(32), off)
	ADDQ(I32(8*v.bytes()), column)
	SUBQ(Imm(8), left)
	JGE(LabelRef(loop))
	Label(rest)
	ADDQ(Imm(8), left)
	JZ(LabelRef(end))
	mask := v.firstLanes(left)
	if !v.wide() {
		mask = v.copied(mask.(reg.VecVirtual))
	}
	body(off, column, mask)
	Label(end)
}

// fourRows emits body for the groups of four rows: their addresses, and the number of the first.
func (v target) fourRows(base, off, stride reg.Register, body func(first int, rows [4]Mem)) {
	p, three := GP64(), GP64()
	LEAQ(Mem{Base: base, Index: off, Scale: 1}, p)
	LEAQ(Mem{Base: stride, Index: stride, Scale: 2}, three)
	for first := 0; first < v.lanes; first += 4 {
		if first > 0 {
			LEAQ(Mem{Base: p, Index: stride, Scale: 4}, p)
		}
		body(first, [4]Mem{{Base: p}, {Base: p, Index: stride, Scale: 1}, {Base: p, Index: stride, Scale: 2}, {Base: p, Index: three, Scale: 1}})
	}
}

// toColumns transposes a block of eight experts of a group of rows.
func (v target) toColumns(base, off, stride, column reg.Register, mask Op) {
	var z [8]reg.VecVirtual
	v.fourRows(base, off, stride, func(first int, rows [4]Mem) {
		for i, m := range rows {
			at := first/8*4 + i // AVX-512: rows 0 to 3 and 4 to 7 share registers, and 8 to 11 and 12 to 15
			if !v.wide() {
				at = first + i
			}
			switch half := first / 4 % 2; {
			case !v.wide():
				z[at] = at8(mask).loadFrom(m)
			case half == 0 && mask == nil:
				z[at] = v.reg()
				VBROADCASTF64X4(m, z[at])
			case half == 0:
				z[at] = v.zero()
				fallthrough
			case mask != nil:
				r := YMM()
				VMOVUPS_Z(m, mask, r)
				VINSERTF64X4(Imm(uint64(half)), r, z[at], z[at])
			default:
				VINSERTF64X4(Imm(1), m, z[at], z[at])
			}
		}
	})
	v.quads(&z)
	for j := range 4 {
		lo, hi := v.reg(), v.reg()
		if v.wide() {
			VSHUFF32X4(Imm(0x88), z[4+j], z[j], lo)
			VSHUFF32X4(Imm(0xdd), z[4+j], z[j], hi)
		} else {
			VPERM2F128(Imm(0x20), z[4+j], z[j], lo)
			VPERM2F128(Imm(0x31), z[4+j], z[j], hi)
		}
		VMOVUPS(lo, Mem{Base: column, Disp: j * v.bytes()})
		VMOVUPS(hi, Mem{Base: column, Disp: (4 + j) * v.bytes()})
	}
}

// at8 is a vector of eight lanes of which those of mask count.
func at8(mask Op) at { return at{target: target{"AVX2", 8}, mask: mask} }

// toRows is toColumns the other way, times scale.
func (v target) toRows(base, off, stride, column reg.Register, scale reg.VecVirtual, mask Op) {
	var z [8]reg.VecVirtual
	for j := range z {
		z[j] = v.reg()
		VMULPS(Mem{Base: column, Disp: j * v.bytes()}, scale, z[j])
	}
	v.quads(&z)
	var low, high Op
	if v.wide() {
		low, high = v.loadFull(zipLanesLow()), v.loadFull(zipLanesHigh())
	}
	for i := range 4 { // rows i and 4+i, then 8+i and 12+i
		if t := v.reg(); v.wide() {
			VMOVAPS(z[i], t)
			VPERMT2PS(z[4+i], low, z[i])
			VPERMT2PS(z[4+i], high, t)
			z[4+i] = t
		} else {
			VPERM2F128(Imm(0x31), z[4+i], z[i], t)
			VPERM2F128(Imm(0x20), z[4+i], z[i], z[i])
			z[4+i] = t
		}
	}
	v.fourRows(base, off, stride, func(first int, rows [4]Mem) {
		for i, m := range rows {
			switch {
			case !v.wide():
				at8(mask).storeTo(z[first+i], m)
				continue
			case first%8 == 0 && mask == nil:
				VMOVUPS(z[first/8*4+i].AsY(), m)
				continue
			case first%8 != 0 && mask == nil:
				VEXTRACTF64X4(Imm(1), z[first/8*4+i], m)
				continue
			case first%8 != 0:
				r := YMM()
				VEXTRACTF64X4(Imm(1), z[first/8*4+i], r)
				VMOVUPS(r, mask, m)
				continue
			}
			VMOVUPS(z[first/8*4+i].AsY(), mask, m)
		}
	})
}

// quads transposes the 4 x 4 floats in each 128 bits of the first four registers, and of the others.
func (v target) quads(z *[8]reg.VecVirtual) {
	for g := 0; g < 8; g += 4 {
		q, t := z[g:g+4], [4]reg.VecVirtual{v.reg(), v.reg(), v.reg(), v.reg()}
		VUNPCKLPS(q[1], q[0], t[0])
		VUNPCKHPS(q[1], q[0], t[1])
		VUNPCKLPS(q[3], q[2], t[2])
		VUNPCKHPS(q[3], q[2], t[3])
		VUNPCKLPD(t[2], t[0], q[0])
		VUNPCKHPD(t[2], t[0], q[1])
		VUNPCKLPD(t[3], t[1], q[2])
		VUNPCKHPD(t[3], t[1], q[3])
	}
}
