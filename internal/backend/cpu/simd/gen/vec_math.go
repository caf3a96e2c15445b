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
	logPoly = []float64{0.00198669659365, -0.0131878265656, 0.041006573694, -0.0818804092358, 0.123779958679,
		-0.160876230093, 0.19885820285, -0.249864964594, 0.333324975435, -0.499999794914, 0.999999999156}
)

const (
	ln2Hi, ln2Lo   = 0.693359375, -2.12194440e-4
	expMin, expMax = -104, 89
)

// exponential holds the constants of e^x.
type exponential struct {
	target
	log2e, hi, lo Op
	poly          []Op
	lo2, hi2      reg.VecVirtual // the range of arguments
	bias          Op             // AVX2
}

func (v target) exponential() *exponential {
	e := &exponential{target: v, log2e: v.constant(math.Log2E), hi: v.constant(ln2Hi), lo: v.constant(ln2Lo)}
	for _, c := range expPoly[:len(expPoly)-1] {
		e.poly = append(e.poly, v.constant(c))
	}
	e.poly = append(e.poly, e.poly[len(e.poly)-1]) // 1, twice
	e.lo2, e.hi2 = v.held(expMin), v.held(expMax)
	if !v.wide() {
		e.bias = v.pattern(127)
	}
	return e
}

// one is the constant 1.
func (e *exponential) one() Op { return e.poly[len(e.poly)-1] }

// apply replaces x by e^x.
func (e *exponential) apply(x reg.VecVirtual) {
	VMAXPS(x, e.lo2, x) // a NaN in the first operand stays
	VMINPS(x, e.hi2, x)
	n, p := e.reg(), e.reg()
	VMULPS(e.log2e, x, n)
	e.round(n)
	VFNMADD231PS(e.hi, n, x)
	VFNMADD231PS(e.lo, n, x)
	horner(e.poly, x, p)
	if e.wide() {
		VSCALEFPS(n, p, x)
		return
	}
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

// round rounds x to the nearest integer.
func (v target) round(x reg.VecVirtual) {
	if v.wide() {
		VRNDSCALEPS(Imm(0), x, x)
	} else {
		VROUNDPS(Imm(0), x, x)
	}
}

// horner sets p to the polynomial with the given coefficients, the highest first, at x.
func horner(coefficients []Op, x, p reg.VecVirtual) {
	VMOVUPS(coefficients[0], p)
	for _, c := range coefficients[1:] {
		VFMADD213PS(c, x, p)
	}
}

// sigmoids adds to the exponential what 1/(1+e^-x) needs.
type sigmoids struct {
	*exponential
	sign Op
	unit reg.VecVirtual // 1
}

func (v target) sigmoids() *sigmoids { return v.exponential().sigmoids(v.pattern(signBit)) }

func (e *exponential) sigmoids(sign Op) *sigmoids {
	s := &sigmoids{exponential: e, sign: sign}
	if one, ok := s.one().(reg.VecVirtual); ok {
		s.unit = one
	} else {
		s.unit = e.held(1)
	}
	return s
}

// denominator is 1 + e^-x in a new register.
func (s *sigmoids) denominator(x reg.VecVirtual) reg.VecVirtual {
	d := s.reg()
	VXORPS(s.sign, x, d)
	s.apply(d)
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
	for _, c := range logPoly {
		s.poly = append(s.poly, v.constant(c))
	}
	return s
}

// log1p replaces x by log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).
func (s *softplus) log1p(x reg.VecVirtual) {
	t, p := s.reg(), s.reg()
	VORPS(s.sign, x, t)
	s.apply(t)
	horner(s.poly, t, p)
	VMAXPS(s.zero, x, x)
	VFMADD231PS(p, t, x)
}

// sigmoids shares the constants.
func (s *softplus) sigmoids() *sigmoids { return s.exponential.sigmoids(s.sign) }
