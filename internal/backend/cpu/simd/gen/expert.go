package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// expertSort emits the counting sort of assignments: for few experts, all of which are compared with each vector.
func (v target) expertSort() {
	v.count()
	v.place(8)
	v.place(16)
}

// count is the number of elements of x that are equal to e.
func (v target) count() {
	v.function("count", "func(x []int32, e int32) int64")
	x, n, e, acc := base("x"), length("x"), v.reg(), v.accumulators(4)
	VBROADCASTSS(memory("e"), e)
	one := v.broadcast(1)
	v.each(n, 4, func(p at) {
		a := acc[p.index]
		if v.wide() {
			k := K()
			if p.mask == nil {
				VPCMPEQD(p.mem(x), e, k)
			} else {
				VPCMPEQD(p.load(x), e, p.mask, k)
			}
			VPADDD(one, a, k, a)
			return
		}
		r := p.load(x)
		VPCMPEQD(e, r, r)
		p.keep(r)
		VPSUBD(r, a, a)
	})
	sum, s := GP64(), v.combined(acc, VPADDD)
	VMOVD(s, sum.As32())
	VZEROUPPER()
	Store(sum, ReturnIndex(0))
	RET()
}

// place gives the assignments of index, which are numbered from first on, their rows: those of each expert in
// order, from next on, which it moves on. The assignments since next was written are counted in the parts of one
// register, since a count in memory would have to be stored before it is loaded again.
func (v target) place(experts int) {
	v.function(fmt.Sprintf("place%d", experts), "func(slot, source, next, index []int32, first int32)")
	width := 64 / experts
	most := 1<<width - 1
	slot, source, next, index, end := base("slot"), base("source"), base("next"), base("index"), length("index")
	item, none, unit := Load(Param("first"), GP64()), GP64(), GP64()
	ADDQ(item, end) // items count from first on in slot and index, too
	for _, p := range []reg.Register{slot, index} {
		e := bytesOf(item)
		SUBQ(e, p)
	}
	XORQ(none, none)
	LEAQ(units(width), unit)
	block, loop, flush, done := label("block"), label("item"), label("flush"), label("done")
	packed, stop := GP64(), GP64()
	Label(block)
	CMPQ(item, end)
	JGE(LabelRef(done))
	XORQ(packed, packed)
	LEAQ(Mem{Base: item, Disp: most}, stop)
	CMPQ(stop, end)
	CMOVQGT(end, stop)
	Label(loop)
	e, shift, row := GP64(), GP64(), GP64()
	MOVL(Mem{Base: index, Index: item, Scale: 4}, e.As32())
	LEAQ(Mem{Base: none, Index: e, Scale: uint8(width)}, shift)
	SHRXQ(shift, packed, row)
	ADDQ(Mem{Base: unit, Index: e, Scale: 8}, packed)
	ANDL(I32(int32(most)), row.As32())
	ADDL(Mem{Base: next, Index: e, Scale: 4}, row.As32())
	MOVL(row.As32(), Mem{Base: slot, Index: item, Scale: 4})
	MOVL(item.(reg.GP).As32(), Mem{Base: source, Index: row, Scale: 4})
	INCQ(item)
	CMPQ(item, stop)
	JL(LabelRef(loop))
	XORQ(e, e)
	Label(flush)
	MOVQ(packed, row)
	ANDL(I32(int32(most)), row.As32())
	ADDL(Mem{Base: next, Index: e, Scale: 4}, row.As32())
	MOVL(row.As32(), Mem{Base: next, Index: e, Scale: 4})
	if width == 8 { // what the next blocks of 255 will write
		PREFETCHT0(Mem{Base: source, Index: row, Scale: 4, Disp: 128})
		PREFETCHT0(Mem{Base: source, Index: row, Scale: 4, Disp: 192})
	}
	INCQ(e)
	SHRQ(Imm(uint64(width)), packed)
	JNZ(LabelRef(flush))
	JMP(LabelRef(block))
	Label(done)
	RET()
}

var unitTables = map[int]Mem{}

// units is the memory of a one for each part of width bits.
func units(width int) Mem {
	m, ok := unitTables[width]
	if !ok {
		m = GLOBL(fmt.Sprintf("units%d", width), RODATA|NOPTR)
		for i := range 64 / width {
			DATA(8*i, U64(uint64(1)<<(width*i)))
		}
		unitTables[width] = m
	}
	return m
}
