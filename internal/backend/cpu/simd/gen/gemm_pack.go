package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// copyAVX512 emits the packing of up to 16 columns that stay columns: dst[k*ldd + i] = src[k*lds + i] for i below
// cols and kc rows, strides in bytes. Rows may be pages apart, out of the reach of the hardware's prefetching.
func copyAVX512() {
	TEXT("copy16AVX512", NOSPLIT, "func(kc int64, src *float32, lds int64, cols int64, dst *float32, ldd int64)")
	Pragma("noescape")
	kc, src, lds, dst, ldd := reg.RCX, reg.RSI, reg.RDX, reg.RDI, reg.R8
	loadStrip(kc, src, lds, dst, ldd)
	Load(Param("cols"), reg.RAX)
	lowMask(reg.RAX, reg.RBX, reg.K1)
	Label("copy16_loop")
	PREFETCHT0(Mem{Base: src, Index: lds, Scale: 8})
	VMOVUPS_Z(Mem{Base: src}, reg.K1, zmm[0])
	VMOVUPS(zmm[0], reg.K1, Mem{Base: dst})
	ADDQ(lds, src)
	ADDQ(ldd, dst)
	DECQ(kc)
	JNZ(LabelRef("copy16_loop"))
	VZEROUPPER()
	RET()
}

// copyAVX2 emits the same for 16 columns.
func copyAVX2() {
	TEXT("copy16AVX2", NOSPLIT, "func(kc int64, src *float32, lds int64, dst *float32, ldd int64)")
	Pragma("noescape")
	kc, src, lds, dst, ldd := reg.RCX, reg.RSI, reg.RDX, reg.RDI, reg.R8
	loadStrip(kc, src, lds, dst, ldd)
	Label("copy16AVX2_loop")
	PREFETCHT0(Mem{Base: src, Index: lds, Scale: 8})
	VMOVUPS(Mem{Base: src}, ymm[0])
	VMOVUPS(Mem{Base: src, Disp: 32}, ymm[1])
	VMOVUPS(ymm[0], Mem{Base: dst})
	VMOVUPS(ymm[1], Mem{Base: dst, Disp: 32})
	ADDQ(lds, src)
	ADDQ(ldd, dst)
	DECQ(kc)
	JNZ(LabelRef("copy16AVX2_loop"))
	VZEROUPPER()
	RET()
}

func loadStrip(kc, src, lds, dst, ldd reg.GPPhysical) {
	Load(Param("kc"), kc)
	Load(Param("src"), src)
	Load(Param("lds"), lds)
	Load(Param("dst"), dst)
	Load(Param("ldd"), ldd)
}

// lowMask sets the n lowest bits of a mask register.
func lowMask(n, tmp reg.GPPhysical, k reg.OpmaskPhysical) {
	MOVQ(I32(-1), tmp)
	BZHIQ(n, tmp, tmp)
	KMOVW(tmp.As32(), k)
}

// transposeAVX512 emits the packing of 16 rows that become columns: dst[k*ldd + i] = src[i*lds + k]. Rows from
// rows on are copies of the last one: what is computed from them is masked away. It prefetches the 16 rows behind,
// which are the next to be packed.
func transposeAVX512() {
	TEXT("transpose16AVX512", NOSPLIT, "func(kc int64, src *float32, lds int64, rows int64, dst *float32, ldd int64)")
	Pragma("noescape")
	kc, src, lds, dst, ldd := reg.RCX, reg.RSI, reg.RDX, reg.RDI, reg.R8
	loadStrip(kc, src, lds, dst, ldd)
	rows := reg.R9
	Load(Param("rows"), rows)
	strip := reg.R13
	MOVQ(lds, strip)
	SHLQ(Imm(4), strip)
	MOVQ(I32(-1), reg.RAX)
	KMOVW(reg.EAX, reg.K1)
	SUBQ(Imm(16), kc)
	JL(LabelRef("transpose16_tail"))
	Label("transpose16_loop")
	loadRows(zmm[:16], src, lds, rows, func(m Mem, v reg.VecPhysical) {
		VMOVUPS(m, v)
		PREFETCHT0(Mem{Base: m.Base, Index: strip, Scale: 1})
	})
	transpose16()
	for i := range 16 {
		VMOVUPS(zmm[i], Mem{Base: dst})
		ADDQ(ldd, dst)
	}
	ADDQ(Imm(64), src)
	SUBQ(Imm(16), kc)
	JGE(LabelRef("transpose16_loop"))
	Label("transpose16_tail")
	ADDQ(Imm(16), kc)
	JZ(LabelRef("transpose16_done"))
	lowMask(kc, reg.RAX, reg.K1)
	loadRows(zmm[:16], src, lds, rows, func(m Mem, v reg.VecPhysical) { VMOVUPS_Z(m, reg.K1, v) })
	transpose16()
	for i := range 15 {
		VMOVUPS(zmm[i], Mem{Base: dst})
		ADDQ(ldd, dst)
		DECQ(kc)
		JZ(LabelRef("transpose16_done"))
	}
	Label("transpose16_done")
	VZEROUPPER()
	RET()
}

// loadRows loads the same columns of consecutive rows; past the last of rows it stays there.
func loadRows(into []reg.VecPhysical, src, lds, rows reg.GPPhysical, load func(Mem, reg.VecPhysical)) {
	row, step, none := reg.R10, reg.R11, reg.R12
	MOVQ(src, row)
	MOVQ(lds, step)
	XORQ(none, none)
	for i, v := range into {
		load(Mem{Base: row}, v)
		if i < len(into)-1 {
			CMPQ(rows, Imm(uint64(i+1)))
			CMOVQLE(none, step)
			ADDQ(step, row)
		}
	}
}

// transpose16 transposes the 16 x 16 floats in registers 0 to 15, by way of the others.
func transpose16() {
	z := zmm
	for i := 0; i < 16; i += 2 {
		VUNPCKLPS(z[i+1], z[i], z[16+i])
		VUNPCKHPS(z[i+1], z[i], z[17+i])
	}
	for i := 0; i < 16; i += 4 {
		VUNPCKLPD(z[18+i], z[16+i], z[i])
		VUNPCKHPD(z[18+i], z[16+i], z[i+1])
		VUNPCKLPD(z[19+i], z[17+i], z[i+2])
		VUNPCKHPD(z[19+i], z[17+i], z[i+3])
	}
	for j := range 4 { // lanes 0 and 2 of two registers, then 1 and 3
		VSHUFF32X4(Imm(0x88), z[4+j], z[j], z[16+j])
		VSHUFF32X4(Imm(0xdd), z[4+j], z[j], z[20+j])
		VSHUFF32X4(Imm(0x88), z[12+j], z[8+j], z[24+j])
		VSHUFF32X4(Imm(0xdd), z[12+j], z[8+j], z[28+j])
	}
	for j := range 4 {
		VSHUFF32X4(Imm(0x88), z[24+j], z[16+j], z[j])
		VSHUFF32X4(Imm(0xdd), z[24+j], z[16+j], z[8+j])
		VSHUFF32X4(Imm(0x88), z[28+j], z[20+j], z[4+j])
		VSHUFF32X4(Imm(0xdd), z[28+j], z[20+j], z[12+j])
	}
}

// transposeAVX2 emits the packing of 8 rows over kc blocks of 8 columns: dst[k*ldd + i] = src[i*lds + k] for
// k below 8*kc.
func transposeAVX2() {
	TEXT("transpose8AVX2", NOSPLIT, "func(kc int64, src *float32, lds int64, dst *float32, ldd int64)")
	Pragma("noescape")
	kc, src, lds, dst, ldd := reg.RCX, reg.RSI, reg.RDX, reg.RDI, reg.R8
	loadStrip(kc, src, lds, dst, ldd)
	Label("transpose8_loop")
	row, y := reg.R10, ymm
	MOVQ(src, row)
	for i := range 8 {
		VMOVUPS(Mem{Base: row}, y[i])
		if i < 7 {
			ADDQ(lds, row)
		}
	}
	for i := 0; i < 8; i += 2 {
		VUNPCKLPS(y[i+1], y[i], y[8+i])
		VUNPCKHPS(y[i+1], y[i], y[9+i])
	}
	for i := 0; i < 8; i += 4 {
		VUNPCKLPD(y[10+i], y[8+i], y[i])
		VUNPCKHPD(y[10+i], y[8+i], y[i+1])
		VUNPCKLPD(y[11+i], y[9+i], y[i+2])
		VUNPCKHPD(y[11+i], y[9+i], y[i+3])
	}
	for half := range 2 { // columns 0..3 are the low lanes, 4..7 the high ones
		for j := range 4 {
			VPERM2F128(Imm(uint64(0x20+0x11*half)), y[4+j], y[j], y[8+j])
			VMOVUPS(y[8+j], Mem{Base: dst})
			ADDQ(ldd, dst)
		}
	}
	ADDQ(Imm(32), src)
	DECQ(kc)
	JNZ(LabelRef("transpose8_loop"))
	VZEROUPPER()
	RET()
}
