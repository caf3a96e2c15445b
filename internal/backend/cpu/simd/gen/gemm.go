package main

import (
	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

func init() { register("gemm", gemm) }

func gemm() {
	peak("peakAVX512", zmm[:16])
	peak("peakAVX2", ymm[:12])
}

// peak emits a loop of independent multiply-adds that touches no memory: the ceiling of every product.
func peak(name string, acc []reg.VecPhysical) {
	TEXT(name, NOSPLIT, "func(loops int64)")
	Pragma("noescape")
	n := reg.RCX
	Load(Param("loops"), n)
	for _, v := range acc {
		VXORPS(v.AsX(), v.AsX(), v.AsX())
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
