package prng

import "math"

// Normal returns a number of the standard normal distribution: the inverse of its
// cumulative distribution at one uniform number, so that n values consume exactly
// n values of Uint64.
func (r *Rand) Normal() float64 {
	// Half a step off the grid: never 0 or 1, and symmetric about 1/2.
	return quantile((float64(r.Uint64()>>12) + 0.5) * 0x1p-52)
}

// Numerators and denominators of quantile, lowest power first.
var (
	centreNum = [8]float64{
		3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
		4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3}
	centreDen = [8]float64{
		1, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3,
		2.1213794301586595867e4, 3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3}
	middleNum = [8]float64{
		1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
		1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4}
	middleDen = [8]float64{
		1, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
		1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9}
	tailNum = [8]float64{
		6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
		2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7}
	tailDen = [8]float64{
		1, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
		7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15}
)

// quantile is the inverse cumulative distribution of the standard normal at p in
// (0, 1), to about 1e-16 relative: Wichura, algorithm AS 241 (PPND16), Applied
// Statistics 37 (1988).
func quantile(p float64) float64 {
	q := p - 0.5
	if math.Abs(q) <= 0.425 {
		r := 0.180625 - float64(q*q)
		return q * polynomial(&centreNum, r) / polynomial(&centreDen, r)
	}
	r := math.Sqrt(-logarithm(math.Min(p, 1-p)))
	var z float64
	if r <= 5 {
		z = polynomial(&middleNum, r-1.6) / polynomial(&middleDen, r-1.6)
	} else {
		z = polynomial(&tailNum, r-5) / polynomial(&tailDen, r-5)
	}
	return math.Copysign(z, q)
}

// polynomial evaluates c[0] + c[1] x + ... by Horner's rule. The conversion rounds
// each product: without it some processors would fuse it with the addition and
// give other bits. All products that meet a sum in this file are treated so.
func polynomial(c *[8]float64, x float64) float64 {
	s := c[7]
	for i := 6; i >= 0; i-- {
		s = float64(s*x) + c[i]
	}
	return s
}

// logarithm is ln(x) for a positive normal x: x = 2^k m with m in [1/√2, √2), and
// ln m = 2 artanh(s) with s = (m-1)/(m+1), |s| < 0.172, whose series is cut where
// the terms vanish. math.Log differs between processors in the last bit.
func logarithm(x float64) float64 {
	m, k := math.Frexp(x)
	if m < math.Sqrt2/2 {
		m *= 2
		k--
	}
	s := (m - 1) / (m + 1)
	s2 := s * s
	sum := 0.0
	for i := 21; i >= 1; i -= 2 {
		sum = float64(sum*s2) + 1/float64(i)
	}
	return float64(float64(k)*math.Ln2) + float64(2*s*sum)
}
