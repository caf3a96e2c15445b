package main

import (
	"fmt"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// assignments emits the counting sort of assignments to few experts, and what moves rows to them.
func (v target) assignments() {
	v.count()
	v.place(8)
	v.place(16)
	v.scatter()
	v.combineGrad()
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

// scatter copies the rows of src, of h elements, to k rows of dst each, past the caches: h is a multiple of 16, and dst
// starts a cache line.
func (v target) scatter() {
	v.function("scatter", "func(dst, src []float32, slot []int32, k, h int)")
	dst, src, slot, end := base("dst"), base("src"), base("slot"), length("slot")
	k, size := Load(Param("k"), GP64()), distance("h")
	SHLQ(Imm(2), end)
	ADDQ(slot, end)
	token, choice, vectors := label("token"), label("choice"), label("vectors")
	left, to, off := GP64(), GP64(), GP64()
	Label(token)
	MOVQ(k, left)
	Label(choice)
	MOVLQSX(Mem{Base: slot}, to)
	IMULQ(size, to)
	ADDQ(dst, to)
	XORQ(off, off)
	Label(vectors)
	for line := 0; line < 64; line += v.bytes() {
		r := v.reg()
		VMOVUPS(Mem{Base: src, Index: off, Scale: 1, Disp: line}, r)
		VMOVNTPS(r, Mem{Base: to, Index: off, Scale: 1, Disp: line})
	}
	ADDQ(Imm(64), off)
	CMPQ(off, size)
	JL(LabelRef(vectors))
	ADDQ(Imm(4), slot)
	DECQ(left)
	JNZ(LabelRef(choice))
	ADDQ(size, src)
	CMPQ(slot, end)
	JL(LabelRef(token))
	SFENCE()
	v.end()
}

// combineGrad is scatter of the rows of dy times their weights, which gives the weights' gradients on the way.
func (v target) combineGrad() {
	v.function("combineGrad", "func(dys, dweights, ys, weights, dy []float32, slot []int32, k, h int)")
	dys, dweights, ys, weights, dy := base("dys"), base("dweights"), base("ys"), base("weights"), base("dy")
	slot, end := base("slot"), length("slot")
	SHLQ(Imm(2), end)
	ADDQ(slot, end)
	token, choice := label("token"), label("choice")
	left, size := GP64(), distance("h")
	Label(token)
	Load(Param("k"), left)
	Label(choice)
	from, to, n := GP64(), GP64(), GP64()
	MOVLQSX(Mem{Base: slot}, to)
	IMULQ(size, to)
	LEAQ(Mem{Base: ys, Index: to, Scale: 1}, from)
	ADDQ(dys, to)
	acc, w := v.accumulators(4), v.reg()
	VBROADCASTSS(Mem{Base: weights}, w)
	Load(Param("h"), n)
	v.each(n, 4, func(p at) {
		d := p.load(dy)
		VFMADD231PS(p.op(from), d, acc[p.index])
		VMULPS(w, d, d)
		if p.mask == nil {
			VMOVNTPS(d, p.mem(to))
		}
	})
	VMOVSS(v.combined(acc, VADDPS), Mem{Base: dweights})
	for _, p := range []reg.Register{slot, weights, dweights} {
		ADDQ(Imm(4), p)
	}
	DECQ(left)
	JNZ(LabelRef(choice))
	ADDQ(size, dy)
	CMPQ(slot, end)
	JL(LabelRef(token))
	SFENCE()
	v.end()
}
