package simd

import "math"

// goVec are the kernels in plain Go. They define what the assembly computes, up to rounding.
var goVec = vecKernels{
	silu:           func(dst, src []float32) { mapInto(dst, src, silu32) },
	softplus:       func(dst, src []float32) { mapInto(dst, src, softplus32) },
	swiglu:         swigluGo,
	swigluGrad:     swigluGradGo,
	axpy:           axpyGo,
	scale:          scaleGo,
	prefetch:       func([]float32) {},
	combine2:       combine2Go,
	add:            addGo,
	max:            maxGo,
	dot:            dotGo,
	dot3:           dot3Go,
	sumSquares:     sumSquaresGo,
	expSum:         expSumGo,
	expTo:          expToGo,
	expScale:       expScaleGo,
	probGrad:       probGradGo,
	norm:           normGo,
	normGrad:       normGradGo,
	conv4:          conv4Go,
	conv4Grad:      conv4GradGo,
	conv4Weights:   conv4WeightsGo,
	fir4:           fir4Go,
	conv4x4:        conv4x4Go,
	conv4x4Grad:    conv4x4GradGo,
	conv4x4Weights: conv4x4WeightsGo,
	fir4x4:         fir4x4Go,
	adamW:          adamWGo,
}

func mapInto(dst, src []float32, f func(float32) float32) {
	for i, v := range src {
		dst[i] = f(v)
	}
}

func swigluGo(y, gate, up []float32) {
	for i, g := range gate {
		y[i] = silu32(g) * up[i]
	}
}

func swigluGradGo(dgate, dup, gate, up, dy []float32) {
	for i, g := range gate {
		s, d := sigmoid32(g), dy[i]
		dgate[i], dup[i] = d*up[i]*(s*(1+g*(1-s))), d*g*s
	}
}

func axpyGo(y, x []float32, a float32) {
	for i, v := range x {
		y[i] += a * v
	}
}

func scaleGo(y, x []float32, a float32) {
	for i, v := range x {
		y[i] = a * v
	}
}

func combine2Go(y, x0, x1 []float32, a0, a1 float32) {
	x1 = x1[:len(y)]
	for i, v := range x0 {
		y[i] = a0*v + a1*x1[i]
	}
}

func addGo(sum, a, b []float32) {
	b = b[:len(a)]
	for i, v := range a {
		sum[i] = v + b[i]
	}
}

func maxGo(x []float32) float32 {
	m := float32(math.Inf(-1))
	for _, v := range x {
		m = max(m, v)
	}
	return m
}

// dotGo adds in four lanes, for speed and accuracy.
func dotGo(a, b []float32) float32 {
	var s [4]float32
	b = b[:len(a)]
	i := 0
	for ; i+4 <= len(a); i += 4 {
		s[0] += a[i] * b[i]
		s[1] += a[i+1] * b[i+1]
		s[2] += a[i+2] * b[i+2]
		s[3] += a[i+3] * b[i+3]
	}
	for ; i < len(a); i++ {
		s[0] += a[i] * b[i]
	}
	return (s[0] + s[1]) + (s[2] + s[3])
}

func dot3Go(a, b, c []float32) float32 {
	var s0, s1 float32
	b, c = b[:len(a)], c[:len(a)]
	i := 0
	for ; i+2 <= len(a); i += 2 {
		s0 += a[i] * b[i] * c[i]
		s1 += a[i+1] * b[i+1] * c[i+1]
	}
	if i < len(a) {
		s0 += a[i] * b[i] * c[i]
	}
	return s0 + s1
}

func sumSquaresGo(x []float32) float64 {
	var s0, s1 float64
	i := 0
	for ; i+2 <= len(x); i += 2 {
		s0 += float64(x[i]) * float64(x[i])
		s1 += float64(x[i+1]) * float64(x[i+1])
	}
	if i < len(x) {
		s0 += float64(x[i]) * float64(x[i])
	}
	return s0 + s1
}

func expSumGo(x []float32, shift float32) float32 {
	var s float64
	for _, v := range x {
		s += float64(exp32(v - shift))
	}
	return float32(s)
}

func expToGo(x []float32, shift float32) float32 {
	var s float64
	for i, v := range x {
		x[i] = exp32(v - shift)
		s += float64(x[i])
	}
	return float32(s)
}

func probGradGo(p, ds []float32, lse, mean float32) {
	for i, v := range ds[:len(p)] {
		p[i] = exp32(p[i] - lse)
		ds[i] = p[i] * (v - mean)
	}
}

func expScaleGo(dst, src []float32, shift, factor float32) {
	for i, v := range src {
		dst[i] = factor * exp32(v-shift)
	}
}

func normGo(y, x, w []float32, r float32) {
	w = w[:len(x)]
	for i, v := range x {
		y[i] = v * r * w[i]
	}
}

// normGradGo is dw += dy*x*r and dx = dy*w*r - x*c + dsum; dx may be dsum.
func normGradGo(dx, dw, dy, x, w, dsum []float32, r, c float32) {
	x, w, dw, dsum = x[:len(dy)], w[:len(dy)], dw[:len(dy)], dsum[:len(dy)]
	for i, d := range dy {
		dw[i] += d * x[i] * r
		dx[i] = dsum[i] + (d*w[i]*r - x[i]*c)
	}
}
