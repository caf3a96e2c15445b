package simd

import "testing"

// benchBytes reports the bandwidth of f, which reads and writes the given number of bytes.
func benchBytes(b *testing.B, name string, bytes int, f func()) {
	b.Run(name, func(b *testing.B) {
		b.SetBytes(int64(bytes))
		for b.Loop() {
			f()
		}
	})
}

// BenchmarkPasses measures the passes over memory against copy, in tensors too large for the caches.
func BenchmarkPasses(b *testing.B) {
	const h, rows = 512, 1 << 14
	const n = h * rows
	s := newSource(b)
	x, y, z, w := s.normal(n, 1), s.normal(n, 1), s.normal(n, 1), s.normal(n, 1)
	rstd, row, zeros, ids := s.normal(rows, 1), s.normal(4*h, 1), s.zeros(h), guarded[int32](b, rows)
	for i := range ids {
		ids[i] = int32(s.IntN(rows))
	}
	targets, lse := guarded[int32](b, rows), s.zeros(rows)
	conv := Conv{Length: rows, Dim: h, Kernel: 4, X: x, W: row, B: zeros, Docs: make([]int32, rows), Zeros: zeros}
	work, dw := s.zeros(conv.GradWork(64)), s.zeros(5*h)
	benchBytes(b, "copy", 8*n, func() { copy(y, x) })
	benchBytes(b, "add", 12*n, func() { vec().add(z, x, y) })
	benchBytes(b, "rms_norm", 8*n, func() { RMSNorm(y, rstd, nil, x, nil, row[:h], 1e-5) })
	benchBytes(b, "rms_norm_residual", 16*n, func() { RMSNorm(y, rstd, z, x, w, row[:h], 1e-5) })
	benchBytes(b, "rms_norm_grad", 16*n, func() { RMSNormGrad(z, dw[:h], x, row[:h], rstd, y, w, zeros) })
	benchBytes(b, "conv1d", 8*n, func() { conv.Forward(y, 0, rows) })
	benchBytes(b, "conv1d_grad", 12*n, func() {
		for t := 0; t < rows; t += 64 {
			conv.Grad(z, nil, dw, dw[4*h:], y, nil, work, t, t+64)
		}
	})
	benchBytes(b, "swiglu", 6*n, func() { SwiGLU(y[:n/2], x, h/2) })
	benchBytes(b, "swiglu_grad", 10*n, func() { SwiGLUGrad(z, x, y[:n/2], h/2) })
	benchBytes(b, "cross_entropy", 4*n, func() { CrossEntropy(rstd, lse, x, targets, h) })
	benchBytes(b, "cross_entropy_grad", 8*n, func() { CrossEntropyGrad(z, x, rstd, targets, 1, h) })
	benchBytes(b, "dispatch", 8*n, func() { Dispatch(y, x, ids, 1, h) })
	benchBytes(b, "combine", 6*n, func() { Combine(y[:n/2], x, rstd, ids, 2, h) })
	benchBytes(b, "combine_grad", 10*n, func() { CombineGrad(z, rstd, x, rstd, y[:n/2], ids, 2, h) })
	benchBytes(b, "sum_squares", 4*n, func() { SumSquares(x) })
	a := AdamW{LR: 1e-3, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Correction1: 0.5, Correction2: 0.5, GradScale: 1}
	for i := range z {
		z[i] *= z[i]
	}
	benchBytes(b, "adamw", 28*n, func() { a.Step(x, y, z, w) })
}

// BenchmarkElementary measures the functions in the first-level cache.
func BenchmarkElementary(b *testing.B) {
	s := newSource(b)
	x, y := s.normal(2048, 1), s.zeros(2048)
	for name, f := range map[string]func(dst, src []float32){"silu": vec().silu, "softplus": vec().softplus} {
		benchBytes(b, name, 8*len(x), func() { f(y, x) })
	}
}
