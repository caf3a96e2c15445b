package main

import (
	"math"

	. "github.com/mmcloughlin/avo/build"
	. "github.com/mmcloughlin/avo/operand"
	"github.com/mmcloughlin/avo/reg"
)

// The polynomials are those of the plain Go level; see math.go of package simd.
var (
	expPoly = []float64{0.00139261761199, 0.00836317307451, 0.0416665546621, 0.166665770256, 0.5, 1, 1}
	// c2 and c1 of e^r = 1 + r (c1 + c2 r) on |r| <= ln(2)/64, the cubic term's best line in c1: 5.3e-8.
	expShort = []float64{0.5, 1 + math.Ln2*math.Ln2/(64*64*8)}
	logPoly  = []float64{0.00198669659365, -0.0131878265656, 0.041006573694, -0.0818804092358, 0.123779958679,
		-0.160876230093, 0.19885820285, -0.249864964594, 0.333324975435, -0.499999794914, 0.999999999156}
)

const (
	ln2Hi, ln2Lo   = 0.693359375, -2.12194440e-4
	expMin, expMax = -104, 89
)

// exponential holds the constants of e^x = 2^n e^r, where n is x log2(e) rounded: with AVX-512 to 1/32, since a register
// pair is a table of the 32 powers between, else to integers. The result is off by at most 1.8 units in the last place
// with AVX-512 and 0.9 with AVX2.
type exponential struct {
	target
	log2e, hi, lo Op
	poly          []Op
	one           Op
	lo2, hi2      reg.VecVirtual // the range of arguments
	shift         reg.VecVirtual // AVX-512: tableShift
	powers        [2]reg.VecVirtual
	bias          Op // AVX2
}

// tableSteps is the number of parts that AVX-512 divides a power of two into; the lowest bits of a sum with tableShift
// count them.
const (
	tableSteps = 32
	tableShift = 1.5 * (1 << 23) / tableSteps
)

// powers are the elements of 2^(i/32), in two registers.
var powers = [2]func() Mem{
	table("powers0", func(i int) uint32 { return math.Float32bits(float32(math.Exp2(float64(i) / tableSteps))) }),
	table("powers1", func(i int) uint32 { return math.Float32bits(float32(math.Exp2(float64(i+16) / tableSteps))) }),
}

func (v target) exponential() *exponential {
	e := &exponential{target: v, log2e: v.constant(math.Log2E), hi: v.constant(ln2Hi), lo: v.constant(ln2Lo)}
	poly := expPoly[:len(expPoly)-1]
	if v.wide() {
		poly = expShort
	}
	for _, c := range poly {
		e.poly = append(e.poly, v.constant(c))
	}
	e.lo2, e.hi2 = v.held(expMin), v.held(expMax)
	if v.wide() {
		e.one, e.shift = v.constant(1), v.held(tableShift)
		e.powers = [2]reg.VecVirtual{v.loadFull(powers[0]()), v.loadFull(powers[1]())}
		return e
	}
	e.one = e.poly[len(e.poly)-1]
	e.poly = append(e.poly, e.one) // 1, twice
	e.bias = v.pattern(127)
	return e
}

// apply replaces x by e^x.
func (e *exponential) apply(x reg.VecVirtual) {
	VMAXPS(x, e.lo2, x) // a NaN in the first operand stays
	VMINPS(x, e.hi2, x)
	e.clamped(x)
}

// applyBelow is apply for arguments of which none is +Inf.
func (e *exponential) applyBelow(x reg.VecVirtual) {
	if !e.wide() {
		e.apply(x)
		return
	}
	VMAXPS(x, e.lo2, x)
	e.clamped(x)
}

// clamped is apply for arguments in the range.
func (e *exponential) clamped(x reg.VecVirtual) {
	if e.wide() {
		e.table(x, e.log2e, VFNMADD231PS)
		return
	}
	n, p := e.reg(), e.reg()
	VMULPS(e.log2e, x, n)
	VROUNDPS(Imm(0), n, n)
	VFNMADD231PS(e.hi, n, x)
	VFNMADD231PS(e.lo, n, x)
	e.horner(e.poly, x, p)
	// 2^n in two factors, so that the ends of the range are reached
	half := e.reg()
	VCVTPS2DQ(n, n)
	VPSRAD(Imm(1), n, half)
	VPSUBD(half, n, n)
	for _, f := range []reg.VecVirtual{half, n} {
		VPADDD(e.bias, f, f)
		VPSLLD(Imm(23), f, f)
	}
	VMULPS(half, p, p)
	VMULPS(n, p, x)
}

// table replaces x by e^x = 2^floor(n) 2^(n-floor(n)) (1 + r (c1 + c2 r)): the second factor is from the table, and
// scaling takes the floor of n by itself. With -log2(e) and VFNMSUB231PS, whose difference is negative, it is e^-x.
func (e *exponential) table(x reg.VecVirtual, log2e Op, subtract func(ops ...Op)) {
	power, n, p := e.copied(e.shift), e.reg(), e.reg()
	VFMADD231PS(log2e, x, power)
	VSUBPS(e.shift, power, n)
	subtract(e.hi, n, x)
	VFNMADD231PS(e.lo, n, x)
	VPERMI2PS(e.powers[1], e.powers[0], power)
	e.horner(e.poly, x, p)
	VMULPS(power, x, x)
	VFMADD231PS(p, x, power)
	VSCALEFPS(n, power, x)
}

// horner sets p to the polynomial with the given coefficients, the highest first, at x.
func (v target) horner(coefficients []Op, x, p reg.VecVirtual) {
	if first, ok := coefficients[0].(Mem); ok && v.wide() {
		VBROADCASTSS(first, p)
	} else {
		VMOVUPS(coefficients[0], p)
	}
	for _, c := range coefficients[1:] {
		if _, ok := c.(Mem); ok && v.wide() {
			VFMADD213PS_BCST(c, x, p)
		} else {
			VFMADD213PS(c, x, p)
		}
	}
}

// sigmoids adds to the exponential what 1/(1+e^-x) needs.
type sigmoids struct {
	*exponential
	sign  Op             // AVX2
	minus Op             // AVX-512: -log2(e)
	least reg.VecVirtual // AVX-512: the argument from which on e^-x is +Inf
	unit  reg.VecVirtual // 1
}

func (v target) sigmoids() *sigmoids { return v.exponential().sigmoids() }

func (e *exponential) sigmoids() *sigmoids {
	s := &sigmoids{exponential: e}
	if e.wide() {
		s.minus, s.least, s.unit = e.constant(-math.Log2E), e.held(-expMax), e.one.(reg.VecVirtual)
	} else {
		s.sign, s.unit = e.pattern(signBit), e.held(1)
	}
	return s
}

// denominator is 1 + e^-x in a new register.
func (s *sigmoids) denominator(x reg.VecVirtual) reg.VecVirtual {
	d := s.reg()
	if s.wide() {
		VMAXPS(x, s.least, d)
		VMINPS(d, s.hi2, d) // e^-89 is nothing to 1
		s.table(d, s.minus, VFNMSUB231PS)
	} else {
		VXORPS(s.sign, x, d)
		s.apply(d)
	}
	VADDPS(s.unit, d, d)
	return d
}

// sigmoid is 1 / (1 + e^-x) in a new register.
func (s *sigmoids) sigmoid(x reg.VecVirtual) reg.VecVirtual {
	d := s.denominator(x)
	VDIVPS(d, s.unit, d)
	return d
}

// silu replaces x by x / (1 + e^-x).
func (s *sigmoids) silu(x reg.VecVirtual) { VDIVPS(s.denominator(x), x, x) }

// siluGrad returns sigmoid(x) and the derivative s (1 + x (1-s)) of silu, in new registers.
func (s *sigmoids) siluGrad(x reg.VecVirtual) (sig, grad reg.VecVirtual) {
	sig, grad = s.sigmoid(x), s.reg()
	VSUBPS(sig, s.unit, grad)
	VFMADD213PS(s.unit, x, grad)
	VMULPS(sig, grad, grad)
	return sig, grad
}

// softplus holds the constants of log(1 + e^x).
type softplus struct {
	*exponential
	sign Op
	poly []Op
	zero reg.VecVirtual
}

func (v target) softplus() *softplus {
	s := &softplus{exponential: v.exponential(), sign: v.pattern(signBit), zero: v.zero()}
	for _, c := range logPoly { // in memory, as there are more than registers to spare
		s.poly = append(s.poly, bits(math.Float32bits(float32(c))))
	}
	return s
}

// log1p replaces x by log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).
func (s *softplus) log1p(x reg.VecVirtual) { s.finish(x, s.fraction(x)) }

// fraction is e^-|x| in a new register.
func (s *softplus) fraction(x reg.VecVirtual) reg.VecVirtual {
	t := s.reg()
	VORPS(s.sign, x, t)
	s.applyBelow(t)
	return t
}

// finish is log1p from t = e^-|x|.
func (s *softplus) finish(x, t reg.VecVirtual) {
	p := s.reg()
	s.horner(s.poly, t, p)
	VMAXPS(s.zero, x, x)
	VFMADD231PS(p, t, x)
}

// withGrad is log1p that returns the derivative, the sigmoid of x, in a new register: with t = e^-|x| it is t/(1+t)
// for negative x, else 1/(1+t).
func (s *softplus) withGrad(x, one reg.VecVirtual) reg.VecVirtual {
	t, sig, d := s.fraction(x), s.reg(), s.reg()
	if s.wide() {
		negative := K()
		VPMOVD2M(x, negative)
		VBLENDMPS(t, one, negative, sig)
	} else {
		VBLENDVPS(x, t, one, sig)
	}
	VADDPS(one, t, d)
	VDIVPS(d, sig, sig)
	s.finish(x, t)
	return sig
}

// sigmoids shares the constants.
func (s *softplus) sigmoids() *sigmoids { return s.exponential.sigmoids() }
