package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The selective scan runs over tiles of 16 channels by 16 states. A tile is a matrix [state, channel], so that a
// vector holds one state of as many channels as it has lanes; with AVX2 the two halves of a tile are two calls.
// Rows of tiles and of what is prepared for them are 64 bytes.
const (
	scanStates = 16
	scanRow    = 64
	scanTile   = scanStates * scanRow
)

// exp2Poly is 2^f on [0,1], the highest coefficient first, with a relative error of 1e-7.
var exp2Poly = []float64{0.00189375405822, 0.0089495904233, 0.0558603370773, 0.240141818201, 0.693154489663, 0.99999989835}

// scan emits the kernels of the selective scan.
func (v target) scan() {
	v.scanPrepare()
	v.scanPrepareGrad()
	v.scanForward()
	v.scanStates()
	v.scanReverse()
}

// row is element row of a matrix whose rows are at distance scanRow.
func row(base reg.Register, i int) Mem { return Mem{Base: base, Disp: i * scanRow} }

func (v target) get(m Mem) reg.VecVirtual {
	r := v.reg()
	VMOVUPS(m, r)
	return r
}

// pointer loads a *float32 or int parameter; memory is where it lies.
func pointer(name string) reg.Register { return Load(Param(name), GP64()) }

func memory(name string) Mem {
	p, err := Param(name).Resolve()
	if err != nil {
		panic(err)
	}
	return p.Addr
}

// moves is a loop over steps: what each pointer moves by after one.
type moves []move

type move struct {
	pointer reg.Register
	by      Op
}

func (m *moves) add(by Op, pointers ...reg.Register) {
	for _, p := range pointers {
		*m = append(*m, move{p, by})
	}
}

// loop emits body as many times as the parameter steps says, which is at least once.
func (m moves) loop(body func()) {
	n, loop := pointer("steps"), label("step")
	Label(loop)
	body()
	for _, p := range m {
		ADDQ(p.by, p.pointer)
	}
	DECQ(n)
	JNZ(LabelRef(loop))
}

// scanPrepare writes for each step delta = softplus(dt + bias) and silu(z): pre[steps, 2, 16].
func (v target) scanPrepare() {
	v.function("scanPrepare", "func(pre, dt, z, bias *float32, ld, steps int)")
	pre, dt, z, ld := pointer("pre"), pointer("dt"), pointer("z"), pointer("ld")
	bias := v.get(Mem{Base: pointer("bias")})
	plus := v.softplus()
	sigmoid := plus.sigmoids()
	var m moves
	m.add(I32(2*scanRow), pre)
	m.add(ld, dt, z)
	m.loop(func() {
		delta := v.reg()
		VADDPS(Mem{Base: dt}, bias, delta)
		plus.log1p(delta)
		VMOVUPS(delta, row(pre, 0))
		gate := v.get(Mem{Base: z})
		sigmoid.silu(gate)
		VMOVUPS(gate, row(pre, 1))
	})
	v.end()
}

// scanPrepareGrad writes for each step delta, its derivative sigmoid(dt + bias), dy silu(z), dy silu'(z) and x:
// pre[steps, 5, 16].
func (v target) scanPrepareGrad() {
	v.function("scanPrepareGrad", "func(pre, x, dt, z, dy, bias *float32, ld, steps int)")
	pre, x, dt, z, dy, ld := pointer("pre"), pointer("x"), pointer("dt"), pointer("z"), pointer("dy"), pointer("ld")
	bias := v.get(Mem{Base: pointer("bias")})
	plus := v.softplus()
	s := plus.sigmoids()
	var m moves
	m.add(I32(5*scanRow), pre)
	m.add(ld, x, dt, z, dy)
	m.loop(func() {
		delta := v.reg()
		VADDPS(Mem{Base: dt}, bias, delta)
		VMOVUPS(plus.withGrad(delta, s.unit), row(pre, 1))
		VMOVUPS(delta, row(pre, 0))
		g := v.get(Mem{Base: z})
		sig, grad := s.siluGrad(g)
		VMULPS(sig, g, g)
		VMULPS(Mem{Base: dy}, g, g)
		VMULPS(Mem{Base: dy}, grad, grad)
		VMOVUPS(g, row(pre, 2))
		VMOVUPS(grad, row(pre, 3))
		VMOVUPS(v.get(Mem{Base: x}), row(pre, 4))
	})
	v.end()
}

// prefetchAhead asks for the rows of a run that lies ahead bytes further on: a tile uses one cache line of each, too
// far apart for the hardware to guess. The loops that compute longest ask for them, a few in each step.
func prefetchAhead(ahead reg.Register, rows ...reg.Register) {
	for _, r := range rows {
		PREFETCHT1(Mem{Base: r, Index: ahead, Scale: 1})
	}
}

// decays holds the constants of e^(a delta) for a scaled by log2(e).
type decays struct {
	target
	poly      []Op
	low, bias Op // AVX2
}

func (v target) decays() *decays {
	d := &decays{target: v}
	for _, c := range exp2Poly {
		d.poly = append(d.poly, v.constant(c))
	}
	if !v.wide() {
		d.low = v.held(-126)
	}
	return d
}

// exp2 is 2^(a delta) in a new register, 0 or nearly so below the smallest normal number.
func (d *decays) exp2(a Mem, delta reg.VecVirtual) reg.VecVirtual {
	e, p := d.reg(), d.reg()
	VMULPS(a, delta, e)
	if d.wide() {
		f := d.reg()
		VREDUCEPS(Imm(1), e, f) // e - floor(e)
		d.horner(d.poly, f, p)
		VSCALEFPS(e, p, p) // by 2^floor(e)
		return p
	}
	VMAXPS(e, d.low.(reg.VecVirtual), e)
	n := d.reg()
	VROUNDPS(Imm(1), e, n)
	VSUBPS(n, e, e)
	d.horner(d.poly, e, p)
	VCVTPS2DQ(n, n)
	VPSLLD(Imm(23), n, n)
	VPADDD(n, p, p)
	return p
}

// bank is one column of vectors of a tile: in registers where there are 32, else in memory.
type bank struct {
	target
	base reg.Register
	regs []reg.VecVirtual
}

// bank loads a tile.
func (v target) bank(base reg.Register) *bank {
	b := &bank{target: v, base: base}
	for n := 0; v.wide() && n < scanStates; n++ {
		b.regs = append(b.regs, v.get(row(base, n)))
	}
	return b
}

// at is vector n, to be changed in place and given back to set.
func (b *bank) at(n int) reg.VecVirtual {
	if b.wide() {
		return b.regs[n]
	}
	return b.get(row(b.base, n))
}

func (b *bank) set(n int, r reg.VecVirtual) {
	if !b.wide() {
		VMOVUPS(r, row(b.base, n))
	}
}

// save writes a tile held in registers to memory.
func (b *bank) save(to reg.Register) {
	for n, r := range b.regs {
		VMOVUPS(r, row(to, n))
	}
}

// fmaScalar is sum += x * element i of a row of floats; mulScalar is dst = x * element.
func (v target) fmaScalar(base reg.Register, i int, x, sum reg.VecVirtual) {
	m := Mem{Base: base, Disp: 4 * i}
	if v.wide() {
		VFMADD231PS_BCST(m, x, sum)
		return
	}
	r := v.reg()
	VBROADCASTSS(m, r)
	VFMADD231PS(r, x, sum)
}

func (v target) mulScalar(base reg.Register, i int, x, dst reg.VecVirtual) {
	m := Mem{Base: base, Disp: 4 * i}
	if v.wide() {
		VMULPS_BCST(m, x, dst)
		return
	}
	VBROADCASTSS(m, dst)
	VMULPS(x, dst, dst)
}

// scanForward advances the tile h by a number of steps and writes y. pre comes from scanPrepare; a is
// -exp(alog) log2(e). dt and z are only prefetched.
func (v target) scanForward() {
	v.function("scanForward", "func(y, x, pre, b, c, a, h, dskip, dt, z *float32, ld, ahead, steps int)")
	y, x, pre, b, c, a := pointer("y"), pointer("x"), pointer("pre"), pointer("b"), pointer("c"), pointer("a")
	hp, skip, ld := pointer("h"), pointer("dskip"), pointer("ld")
	dt, z, ahead := pointer("dt"), pointer("z"), pointer("ahead")
	d, h := v.decays(), v.bank(hp)
	var m moves
	m.add(ld, y, x, dt, z)
	m.add(I32(2*scanRow), pre)
	m.add(I32(scanRow), b, c)
	m.loop(func() {
		prefetchAhead(ahead, dt, z, x, y)
		delta, dx := v.get(row(pre, 0)), v.get(Mem{Base: x})
		sum := v.reg()
		VMULPS(Mem{Base: skip}, dx, sum)
		VMULPS(delta, dx, dx)
		for n := range scanStates {
			decay, in := d.exp2(row(a, n), delta), v.reg()
			s := h.at(n)
			v.mulScalar(b, n, dx, in)
			VFMADD213PS(in, decay, s)
			v.fmaScalar(c, n, s, sum)
			h.set(n, s)
		}
		VMULPS(row(pre, 1), sum, sum)
		VMOVUPS(sum, Mem{Base: y})
	})
	h.save(hp)
	v.end()
}

// scanStates computes the states of a run again: trace[steps+1, 2, tile] has the state before each step (the
// first is given) and the step's decay. It also writes dz = dy silu'(z) (y before the gate). x, dt, z and dy are only
// prefetched.
func (v target) scanStates() {
	v.function("scanStates", "func(trace, dz, pre, b, c, a, dskip, x, dt, z, dy *float32, ld, ahead, steps int)")
	trace, dz, pre, b, c, a := pointer("trace"), pointer("dz"), pointer("pre"), pointer("b"), pointer("c"), pointer("a")
	skip, x, dt, z, dy, ahead := pointer("dskip"), pointer("x"), pointer("dt"), pointer("z"), pointer("dy"), pointer("ahead")
	d, h := v.decays(), v.bank(trace)
	var m moves
	ld := GP64()
	m.add(ld, dz, x, dt, z, dy)
	m.add(I32(5*scanRow), pre)
	m.add(I32(scanRow), b, c)
	m.add(I32(2*scanTile), trace)
	m.loop(func() {
		Load(Param("ld"), ld)
		prefetchAhead(ahead, x, dt, z, dy, dz)
		delta, dx := v.get(row(pre, 0)), v.get(row(pre, 4))
		sum := v.reg()
		VMULPS(Mem{Base: skip}, dx, sum)
		VMULPS(delta, dx, dx)
		for n := range scanStates {
			decay, in := d.exp2(row(a, n), delta), v.reg()
			s := h.at(n)
			VMOVUPS(decay, row(trace, scanStates+n))
			v.mulScalar(b, n, dx, in)
			VFMADD213PS(in, decay, s)
			v.fmaScalar(c, n, s, sum)
			VMOVUPS(s, row(trace, 2*scanStates+n))
		}
		VMULPS(row(pre, 3), sum, sum)
		VMOVUPS(sum, Mem{Base: dz})
	})
	v.end()
}

// scanReverse runs a number of steps backwards from the last, to which all pointers of rows point. dh is the
// gradient of the state after it, then before the first. What is a sum over channels or steps is added to: the
// rows of db and dc, dalog, dbias and ddskip. products is room for two tiles.
func (v target) scanReverse() {
	v.function("scanReverse", "func(dx, ddt, db, dc, pre, b, c, trace, products, a, dh, dalog, dskip, dbias, ddskip *float32, ld, ahead, steps int)")
	dx, ddt, db, dc, pre := pointer("dx"), pointer("ddt"), pointer("db"), pointer("dc"), pointer("pre")
	b, c, trace, products := pointer("b"), pointer("c"), pointer("trace"), pointer("products")
	a, gp, dalog := pointer("a"), pointer("dh"), pointer("dalog")
	var m moves
	m.add(I32(-5*scanRow), pre)
	m.add(I32(-scanRow), b, c, db, dc)
	m.add(I32(-2*scanTile), trace)
	m.add(memory("ld"), dx, ddt) // negative
	g, ln2 := v.bank(gp), v.constant(math.Ln2)
	m.loop(func() {
		prefetchAhead(pointer("ahead"), dx, ddt)
		delta, gy := v.get(row(pre, 0)), v.get(row(pre, 2))
		in, ddx, ddelta := v.reg(), v.zero(), v.zero()
		VMULPS(row(pre, 4), delta, in)
		for n := range scanStates {
			product := v.reg()
			VMULPS(row(trace, 2*scanStates+n), gy, product)
			VMOVUPS(product, row(products, scanStates+n))
			s := g.at(n)
			v.fmaScalar(c, n, gy, s)
			VMULPS(in, s, product)
			VMOVUPS(product, row(products, n))
			v.fmaScalar(b, n, s, ddx)
			VMULPS(row(trace, scanStates+n), s, s)
			q := v.reg()
			VMULPS(row(trace, n), s, q)
			g.set(n, s)
			VFMADD231PS(row(a, n), q, ddelta)
			v.addProduct(row(dalog, n), q, delta)
		}
		v.addLanes(products, 0, db)
		v.addLanes(products, scanStates, dc)
		v.scanReverseRow(dx, ddt, pre, ddx, ddelta, delta, gy, ln2)
	})
	g.save(gp)
	v.end()
}

// addProduct is m += x*y.
func (v target) addProduct(m Mem, x Op, y reg.VecVirtual) {
	sum := v.get(m)
	VFMADD231PS(x, y, sum)
	VMOVUPS(sum, m)
}

// addLanes adds the sums over the lanes of 16 rows, from the given one on, to the 16 elements of dst.
func (v target) addLanes(rows reg.Register, first int, dst reg.Register) {
	for n := first; n < first+scanStates; n += 4 {
		ab := v.addPairs(v.get(row(rows, n)), v.get(row(rows, n+1)))
		cd := v.addPairs(v.get(row(rows, n+2)), v.get(row(rows, n+3)))
		sums := v.addPairs(ab, cd) // one element of each row in every quarter
		quarter := v.reg()
		if v.wide() {
			VEXTRACTF64X4(Imm(1), sums, quarter.AsY())
			VADDPS(quarter.AsY(), sums.AsY(), sums.AsY())
			VEXTRACTF32X4(Imm(1), sums.AsY(), quarter.AsX())
		} else {
			VEXTRACTF128(Imm(1), sums, quarter.AsX())
		}
		total, at := sums.AsX(), Mem{Base: dst, Disp: 4 * (n - first)}
		VADDPS(quarter.AsX(), total, total)
		VADDPS(at, total, total)
		VMOVUPS(total, at)
	}
}

// addPairs adds neighbouring elements: in each quarter of the result, two of a and two of b. Both are consumed.
func (v target) addPairs(a, b reg.VecVirtual) reg.VecVirtual {
	even := v.reg()
	VSHUFPS(Imm(0x88), b, a, even)
	VSHUFPS(Imm(0xdd), b, a, a)
	VADDPS(even, a, a)
	return a
}

// scanReverseRow writes the gradients of x and dt at one step, and adds to those of dskip and the bias.
func (v target) scanReverseRow(dx, ddt, pre reg.Register, ddx, ddelta, delta, gy reg.VecVirtual, ln2 Op) {
	VMULPS(ln2, ddelta, ddelta)
	VFMADD231PS(row(pre, 4), ddx, ddelta)
	VMULPS(row(pre, 1), ddelta, ddelta)
	VMOVUPS(ddelta, Mem{Base: ddt})
	VMULPS(delta, ddx, ddx)
	p := pointer("dskip")
	VFMADD231PS(Mem{Base: p}, gy, ddx)
	VMOVUPS(ddx, Mem{Base: dx})
	p = pointer("dbias")
	VADDPS(Mem{Base: p}, ddelta, ddelta)
	VMOVUPS(ddelta, Mem{Base: p})
	p = pointer("ddskip")
	v.addProduct(Mem{Base: p}, row(pre, 4), gy)
}
