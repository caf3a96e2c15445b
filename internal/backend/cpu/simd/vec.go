package simd

//go:generate go run -C gen . -kernels vec -pkg simd -out ../vec_amd64.s -stubs ../vec_stubs_amd64.go

// vecKernels are the loops that everything but matrix products is made of: one pass over a few vectors. Each
// level has a table of them; the operators of this package are the same Go code on every level. The length
// is that of the first slice; the callers have cut the others to it.
type vecKernels struct {
	// dst = f(src), with relative errors of at most 4e-7.
	silu, softplus func(dst, src []float32)
	swiglu         func(y, gate, up []float32)
	swigluGrad     func(dgate, dup, gate, up, dy []float32)

	axpy     func(y, x []float32, a float32)
	scale    func(y, x []float32, a float32)
	prefetch func(x []float32) // brings x to the cache, in order
	combine2 func(y, x0, x1 []float32, a0, a1 float32)
	add      func(sum, a, b []float32)

	max        func(x []float32) float32
	dot        func(a, b []float32) float32
	dot3       func(a, b, c []float32) float32
	sumSquares func(x []float32) float64
	// e^(x - shift), with relative errors of at most 2e-7; what is below the smallest normal number may be 0.
	expSum   func(x []float32, shift float32) float32
	expTo    func(x []float32, shift float32) float32 // expSum that also writes what it adds up to x
	expScale func(dst, src []float32, shift, factor float32)
	probGrad func(p, ds []float32, lse, mean float32) // p = e^(p - lse), then ds = p*(ds - mean)

	norm     func(y, x, w []float32, r float32)
	normGrad func(dx, dw, dy, x, w, dsum []float32, r, c float32)

	conv4        func(y, x0, x1, x2, x3, w, b []float32)
	conv4Grad    func(dpre, dy, x0, x1, x2, x3, w, b []float32)
	conv4Weights func(dw, db, dpre, x0, x1, x2, x3 []float32)
	fir4         func(dx, d0, d1, d2, d3, w []float32)

	// The same for four rows, with the seven rows of inputs that they see.
	conv4x4        func(y, x, w, b []float32)
	conv4x4Grad    func(dpre, dy, x, w, b []float32)
	conv4x4Weights func(dw, db, dpre, x []float32)
	fir4x4         func(dx, d, w []float32)

	adamW func(p, m, v, g []float32, scale, decay, beta1c, beta2, beta2c, root, eps, step float32)

	scan *scanKernels // nil: the general form is used
}

// vecTables has the kernels of each level; what is not Go is added where there is assembly for it.
var vecTables = [...]*vecKernels{levelGo: &goVec, levelAVX2: &goVec, levelAVX512: &goVec}

func vec() *vecKernels { return vecTables[current] }

// Softplus is dst = log(1 + e^src), with a relative error of at most 4e-7.
func Softplus(dst, src []float32) { vec().softplus(dst, src[:len(dst)]) }

// Add is sum = a + b; sum may be a or b.
func Add(sum, a, b []float32) { vec().add(sum, a[:len(sum)], b[:len(sum)]) }

// Scale is y = a*x; y may be x.
func Scale(y, x []float32, a float32) { vec().scale(y, x[:len(y)], a) }

// Max is the largest element of x, -Inf for none. Whether a NaN counts is not defined.
func Max(x []float32) float32 { return vec().max(x) }

// Dot is the sum of a*b, in float32 with a fixed order.
func Dot(a, b []float32) float32 { return vec().dot(a, b[:len(a)]) }

// ExpSum is the sum of e^(x - shift), in float32 with a fixed order.
func ExpSum(x []float32, shift float32) float32 { return vec().expSum(x, shift) }

// ExpScale is dst = factor * e^(src - shift); dst may be src.
func ExpScale(dst, src []float32, shift, factor float32) {
	vec().expScale(dst, src[:len(dst)], shift, factor)
}

// SumSquares is the sum of x^2 in float64. Equal slices give equal bits; a sum over blocks is the caller's,
// who adds them in order.
func SumSquares(x []float32) float64 { return vec().sumSquares(x) }

// SumRows adds the rows of parts, which follow each other, to dst: the end of a sum over fixed blocks.
func SumRows(dst, parts []float32) {
	for n := len(dst); len(parts) >= n && n > 0; parts = parts[n:] {
		vec().add(dst, dst, parts[:n])
	}
}

// SwiGLU is y[rows,n] = silu(gate) * up for gu[rows,2n], whose rows hold gate, then up.
func SwiGLU(y, gu []float32, n int) {
	k := vec()
	gu = gu[:2*len(y)]
	for ; len(y) > 0; y, gu = y[n:], gu[2*n:] {
		k.prefetch(gu[:2*n]) // two streams within a row defeat the hardware's prefetching
		k.swiglu(y[:n], gu[:n], gu[n:2*n])
	}
}

// SwiGLUGrad is the gradient of SwiGLU: dgate = dy*up*silu'(gate), dup = dy*silu(gate). dgu may be gu.
func SwiGLUGrad(dgu, gu, dy []float32, n int) {
	k := vec()
	dgu, gu = dgu[:2*len(dy)], gu[:2*len(dy)]
	for ; len(dy) > 0; dgu, gu, dy = dgu[2*n:], gu[2*n:], dy[n:] {
		k.prefetch(gu[:2*n])
		k.prefetch(dgu[:2*n])
		k.swigluGrad(dgu[:n], dgu[n:2*n], gu[:n], gu[n:2*n], dy[:n])
	}
}
