package main

import (
	"fmt"
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// routing emits the choice of experts and its gradient.
func (v target) routing() {
	v.routerTop(1)
	v.routerTop(2)
	v.routerGrad()
}

// table is the memory of 16 words.
func table(name string, word func(i int) uint32) func() Mem {
	var m *Mem
	return func() Mem {
		if m == nil {
			g := GLOBL(name, RODATA|NOPTR)
			for i := range 16 {
				DATA(4*i, U32(word(i)))
			}
			m = &g
		}
		return *m
	}
}

var (
	iota16 = table("iota16", func(i int) uint32 { return uint32(i) })
	// For VPERMT2PS: the elements of two registers in turn, the first eight of each and the others.
	zipLow  = table("zipLow", func(i int) uint32 { return uint32(i/2 + i%2*16) })
	zipHigh = table("zipHigh", func(i int) uint32 { return uint32(8 + i/2 + i%2*16) })
	// The same for 128 bits.
	zipLanesLow  = table("zipLanesLow", func(i int) uint32 { return uint32(i/8*4 + i%4 + i/4%2*16) })
	zipLanesHigh = table("zipLanesHigh", func(i int) uint32 { return uint32(8 + i/8*4 + i%4 + i/4%2*16) })
)

// loadFull is a vector from a table.
func (v target) loadFull(m Mem) reg.VecVirtual {
	r := v.reg()
	VMOVUPS(m, r)
	return r
}

// routerTop emits the softmax and the k largest of each row, for groups of as many rows as a vector has lanes: a
// group is transposed, so that a lane is a row and an expert a vector in columns, and goes through the experts once
// for the largest and once for the exponentials, which it inserts into the k largest so far.
func (v target) routerTop(k int) {
	v.function(fmt.Sprintf("routerTop%d", k),
		"func(probs, weights []float32, index []int32, logits, columns []float32, experts, groups, renormalise int)")
	probs, weights, index, logits, columns := base("probs"), base("weights"), base("index"), base("logits"), base("columns")
	experts, groups := Load(Param("experts"), GP64()), Load(Param("groups"), GP64())
	stride, exp := bytesOf(experts), v.exponential()
	loop := label("group")
	Label(loop)
	v.columnBlocks(experts, columns, func(off, column reg.Register, mask Op) { v.toColumns(logits, off, stride, column, mask) })
	top := v.experts(experts, columns, exp, k)
	scale := v.reg()
	VDIVPS(top.sum, v.held(1), scale)
	top.store(weights, index, scale)
	v.columnBlocks(experts, columns, func(off, column reg.Register, mask Op) { v.toRows(probs, off, stride, column, scale, mask) })
	size := GP64()
	MOVQ(stride, size)
	SHLQ(Imm(uint64(math.Log2(float64(v.lanes)))), size)
	ADDQ(size, logits)
	ADDQ(size, probs)
	ADDQ(Imm(uint64(k*v.bytes())), weights)
	ADDQ(Imm(uint64(k*v.bytes())), index)
	DECQ(groups)
	JNZ(LabelRef(loop))
	v.end()
}

// largest are the k largest exponentials of each lane's row, in order, with their experts, and the sum of all.
type largest struct {
	target
	sum    reg.VecVirtual
	values []reg.VecVirtual
	index  []reg.VecVirtual
}

// experts replaces the logits in columns by their exponentials. Where all are NaN the first k experts stay chosen.
func (v target) experts(experts, columns reg.Register, exp *exponential, k int) *largest {
	each := func(body func(m Mem)) {
		column, left, loop := GP64(), GP64(), label("expert")
		MOVQ(columns, column)
		MOVQ(experts, left)
		Label(loop)
		body(Mem{Base: column})
		ADDQ(Imm(uint64(v.bytes())), column)
		DECQ(left)
		JNZ(LabelRef(loop))
	}
	top, lowest := v.held(math.Inf(-1)), v.held(math.Inf(-1))
	each(func(m Mem) { VMAXPS(m, top, top) })
	l := &largest{target: v, sum: v.zero()}
	for j := range k {
		l.values, l.index = append(l.values, v.copied(lowest)), append(l.index, v.broadcast(uint32(j)))
	}
	expert, one := v.zero(), v.pattern(1)
	each(func(m Mem) {
		x := v.loadFull(m)
		VSUBPS(top, x, x)
		exp.apply(x)
		VMOVUPS(x, m)
		VADDPS(x, l.sum, l.sum)
		l.insert(x, expert)
		VPADDD(one, expert, expert)
	})
	return l
}

// insert puts x and its expert before what is smaller; what is equal stays before it.
func (l *largest) insert(x, expert reg.VecVirtual) {
	greater := make([]Op, len(l.values))
	for j, w := range l.values {
		if l.wide() {
			greater[j] = K()
		} else {
			greater[j] = l.reg()
		}
		VCMPPS(Imm(0x1e), w, x, greater[j]) // x > w, false for NaN
	}
	for j, w := range l.values {
		last := j == len(l.values)-1
		i, value, name := l.index[j], x, expert
		if !last {
			x, expert = l.reg(), l.copied(expert)
			VMINPS(w, value, x)
			l.choose(greater[j], i, expert)
		}
		VMAXPS(w, value, w)
		l.choose(greater[j], name, i)
	}
}

// choose replaces x by y where the mask says so.
func (v target) choose(mask Op, y, x reg.VecVirtual) {
	if v.wide() {
		VMOVAPS(y, mask, x)
	} else {
		VBLENDVPS(mask, y, x, x)
	}
}

// store writes the weights, times scale or with a sum of 1, and the experts, a row's k after each other.
func (l *largest) store(weights, index reg.Register, scale reg.VecVirtual) {
	plain, factor := label("plain"), l.copied(scale)
	flag := Load(Param("renormalise"), GP64())
	TESTQ(flag, flag)
	JZ(LabelRef(plain))
	sum := l.copied(l.values[0])
	for _, w := range l.values[1:] {
		VADDPS(w, sum, sum)
	}
	VDIVPS(sum, l.held(1), factor)
	Label(plain)
	for _, w := range l.values {
		VMULPS(factor, w, w)
	}
	l.zip(l.values, weights)
	l.zip(l.index, index)
}

// zip writes the elements of one or two vectors in turn.
func (v target) zip(x []reg.VecVirtual, base reg.Register) {
	first, second := Mem{Base: base}, Mem{Base: base, Disp: v.bytes()}
	switch {
	case len(x) == 1:
		VMOVUPS(x[0], first)
	case v.wide():
		t := v.copied(x[0])
		VPERMT2PS(x[1], v.loadFull(zipLow()), t)
		VMOVUPS(t, first)
		VPERMT2PS(x[1], v.loadFull(zipHigh()), x[0])
		VMOVUPS(x[0], second)
	default:
		lo, hi, t := v.reg(), v.reg(), v.reg()
		VUNPCKLPS(x[1], x[0], lo)
		VUNPCKHPS(x[1], x[0], hi)
		VPERM2F128(Imm(0x20), hi, lo, t)
		VMOVUPS(t, first)
		VPERM2F128(Imm(0x31), hi, lo, t)
		VMOVUPS(t, second)
	}
}

// routerGrad emits dlogits = p*(d - p.d) for rows of probabilities p, with d the rows of dprobs, if there are any,
// and the k gradients of a row's weights added where index says.
func (v target) routerGrad() {
	v.function("routerGrad", "func(dlogits, probs, dprobs, dweights []float32, index []int32, rows, experts, k int)")
	dlogits, probs, dprobs, dweights, index := base("dlogits"), base("probs"), base("dprobs"), base("dweights"), base("index")
	rows, experts, k := Load(Param("rows"), GP64()), Load(Param("experts"), GP64()), Load(Param("k"), GP64())
	stride, choices, step := bytesOf(experts), bytesOf(k), GP64()
	XORQ(step, step) // of dprobs: none stay where they are
	TESTQ(dprobs, dprobs)
	CMOVQNE(stride, step)
	first, lanes, rest := v.loadFull(iota16()), v.pattern(uint32(v.lanes)), v.zero()
	rowLoop(rows, func() {
		acc, ids := v.accumulators(1), v.copied(first)
		v.row(experts, func(p at) {
			d := v.zero()
			none := label("none")
			TESTQ(dprobs, dprobs)
			JZ(LabelRef(none))
			if m := p.mem(dprobs); p.mask == nil {
				VMOVUPS(m, d)
			} else if v.wide() {
				VMOVUPS_Z(m, p.mask, d)
			} else {
				VMASKMOVPS(m, p.mask, d)
			}
			Label(none)
			v.addChosen(d, ids, index, dweights, choices)
			p.save(d, rest, dlogits)
			VFMADD231PS(p.op(probs), d, acc[0])
			VPADDD(lanes, ids, ids)
		})
		dot := v.reg()
		VBROADCASTSS(v.combined(acc, VADDPS), dot)
		v.row(experts, func(p at) {
			d := p.saved(rest, dlogits)
			VSUBPS(dot, d, d)
			VMULPS(p.op(probs), d, d)
			p.store(d, dlogits)
		})
	}, [2]reg.Register{dlogits, stride}, [2]reg.Register{probs, stride}, [2]reg.Register{dprobs, step},
		[2]reg.Register{dweights, choices}, [2]reg.Register{index, choices})
	v.end()
}

// addChosen adds to each lane of d the gradients of the weights of its expert, which ids has.
func (v target) addChosen(d, ids reg.VecVirtual, index, dweights, choices reg.Register) {
	j, loop, end := GP64(), label("choice"), label("end")
	XORQ(j, j)
	CMPQ(j, choices)
	JGE(LabelRef(end))
	Label(loop)
	chosen, dw := v.reg(), v.reg()
	VPBROADCASTD(Mem{Base: index, Index: j, Scale: 1}, chosen)
	VBROADCASTSS(Mem{Base: dweights, Index: j, Scale: 1}, dw)
	if v.wide() {
		k := K()
		VPCMPEQD(ids, chosen, k)
		VADDPS(dw, d, k, d)
	} else {
		VPCMPEQD(ids, chosen, chosen)
		VANDPS(chosen, dw, dw)
		VADDPS(dw, d, d)
	}
	ADDQ(Imm(4), j)
	CMPQ(j, choices)
	JL(LabelRef(loop))
	Label(end)
}
