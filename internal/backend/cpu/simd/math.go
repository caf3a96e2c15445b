package simd

import "math"

// The elementary functions of the plain Go level, in float32. The vector levels use the same polynomials, but AVX-512 has
// an exponential of its own (gen/vec_math.go).

// Coefficients fitted at Chebyshev points. e^r = 1 + r + r^2 (expC0 + expC1 r + ...) on |r| <= ln(2)/2 with a
// relative error of 1e-8; log(1+t) = t (logC0 + logC1 t + ...) on [0,1] with 1e-9.
const (
	expC0, expC1, expC2, expC3, expC4 = 0.5, 0.166665770256, 0.0416665546621, 0.00836317307451, 0.00139261761199

	logC0, logC1, logC2, logC3 = 0.999999999156, -0.499999794914, 0.333324975435, -0.249864964594
	logC4, logC5, logC6, logC7 = 0.19885820285, -0.160876230093, 0.123779958679, -0.0818804092358
	logC8, logC9, logC10       = 0.041006573694, -0.0131878265656, 0.00198669659365
)

// ln(2) in two parts: products of ln2Hi with small integers are exact.
const (
	ln2Hi = 0.693359375
	ln2Lo = -2.12194440e-4
)

// Outside these e^x is +Inf and 0.
const (
	expMax = 89
	expMin = -104
)

// exp32 is e^x.
func exp32(x float32) float32 {
	if !(x < expMax) {
		if x != x {
			return x
		}
		return float32(math.Inf(1))
	}
	if x < expMin {
		return 0
	}
	n := int32(float32(x*math.Log2E) + 128.5) // rounds: the argument is positive
	n -= 128
	r := x - float32(n)*ln2Hi
	r -= float32(n) * ln2Lo
	p := float32(expC4)
	p = p*r + expC3
	p = p*r + expC2
	p = p*r + expC1
	p = p*r + expC0
	p = 1 + (r + r*r*p)
	half := n >> 1 // 2^n in two factors, so that the ends of the range are reached
	return p * pow2(half) * pow2(n-half)
}

// pow2 is 2^n for -126 <= n <= 127.
func pow2(n int32) float32 { return math.Float32frombits(uint32(n+127) << 23) }

func sigmoid32(x float32) float32 { return 1 / (1 + exp32(-x)) }

func silu32(x float32) float32 { return x / (1 + exp32(-x)) }

// softplus32 is log(1 + e^x) = max(x, 0) + log(1 + e^-|x|).
func softplus32(x float32) float32 {
	t := exp32(-abs32(x))
	p := float32(logC10)
	for _, c := range [...]float32{logC9, logC8, logC7, logC6, logC5, logC4, logC3, logC2, logC1, logC0} {
		p = p*t + c
	}
	return max(x, 0) + t*p
}

func abs32(x float32) float32 { return math.Float32frombits(math.Float32bits(x) &^ (1 << 31)) }
