package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// expSums emits top = max x and sum = sum e^(x-top) of rows of n elements. A lane's exponentials are relative to its own
// largest element, so that they need not wait for that of the row; the lanes' sums are brought to it at the end, while the
// next row is on its way: it is prefetched along with the exponentials, as the memory would idle meanwhile.
func (v target) expSums() {
	v.function("expSums", "func(top, sum, x []float32, n int)")
	top, sum, x, rows := base("top"), base("sum"), base("x"), length("top")
	n, size := Load(Param("n"), GP64()), distance("n")
	e, lowest := v.exponential(), v.held(-math.MaxFloat32) // of -Inf alone the sum is 0
	rowLoop(rows, func() {
		left := GP64()
		MOVQ(n, left)
		tops := v.copies(lowest, 4)
		v.each(left, 4, func(p at) {
			r := p.load(x)
			p.fill(r, lowest)
			VMAXPS(r, tops[p.index], tops[p.index])
		})
		largest := fold(tops, VMAXPS)
		next, acc := GP64(), v.accumulators(2)
		LEAQ(Mem{Base: x, Index: size, Scale: 1}, next)
		MOVQ(n, left)
		v.each(left, 2, func(p at) {
			if p.mask == nil {
				PREFETCHT0(p.mem(next))
			}
			r := p.load(x)
			VSUBPS(largest, r, r)
			e.applyBelow(r)
			p.keep(r)
			VADDPS(r, acc[p.index], acc[p.index])
		})
		total := v.copied(largest)
		VMOVSS(v.combined([]reg.VecVirtual{total}, VMAXPS), Mem{Base: top})
		VBROADCASTSS(Mem{Base: top}, total)
		VSUBPS(total, largest, largest)
		e.applyBelow(largest)
		VMULPS(largest, fold(acc, VADDPS), acc[0])
		VMOVSS(v.combined(acc[:1], VADDPS), Mem{Base: sum})
		ADDQ(Imm(4), top)
		ADDQ(Imm(4), sum)
	}, [2]reg.Register{x, size})
	v.end()
}
