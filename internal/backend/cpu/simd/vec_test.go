package simd

import (
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
)

// eachLevel runs a test on every level this machine has.
func eachLevel(t *testing.T, f func(t *testing.T)) {
	before := Level()
	defer func() { _ = SetLevel(before) }()
	for _, level := range Levels() {
		t.Run(level, func(t *testing.T) {
			if err := SetLevel(level); err != nil {
				t.Fatal(err)
			}
			f(t)
		})
	}
}

// source makes guarded inputs and outputs, the same in every run.
type source struct {
	testing.TB
	*rand.Rand
}

func newSource(t testing.TB) source { return source{t, rand.New(rand.NewPCG(1, 2))} }

// normal returns n values of the normal distribution with the given standard deviation.
func (s source) normal(n int, sd float64) []float32 {
	x := guarded[float32](s, n)
	for i := range x {
		x[i] = float32(s.NormFloat64() * sd)
	}
	return x
}

// junk returns n values that a kernel must overwrite.
func (s source) junk(n int) []float32 {
	x := guarded[float32](s, n)
	for i := range x {
		x[i] = float32(math.NaN())
	}
	return x
}

func (s source) zeros(n int) []float32 { return guarded[float32](s, n) }

// documents returns ids of a row with boundaries at random places; padding ends it now and then.
func (s source) documents(n int) []int32 {
	docs := guarded[int32](s, n)
	doc := int32(0)
	for i := range docs {
		if i > 0 && s.IntN(6) == 0 {
			doc++
		}
		docs[i] = doc
	}
	for i := n - s.IntN(3); i < n; i++ {
		docs[max(i, 0)] = -1
	}
	return docs
}

func wide(x []float32) []float64 {
	if x == nil {
		return nil
	}
	w := make([]float64, len(x))
	for i, v := range x {
		w[i] = float64(v)
	}
	return w
}

// near fails unless got is want up to tol times the largest magnitude of want, element by element.
func near(t testing.TB, what string, got []float32, want []float64, tol float64) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%s: %d elements, want %d", what, len(got), len(want))
	}
	scale := 1e-30
	for _, w := range want {
		scale = max(scale, math.Abs(w))
	}
	for i, w := range want {
		if d := math.Abs(float64(got[i]) - w); !(d <= tol*scale) {
			t.Fatalf("%s[%d] = %g, want %g (off by %.2g of the largest)", what, i, got[i], w, d/scale)
		}
	}
}

var sizes = []int{0, 1, 2, 3, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 63, 64, 65, 127, 128, 129, 200, 256, 257}

func sigmoid64(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func softplus64(x float64) float64 { return max(x, 0) + math.Log1p(math.Exp(-math.Abs(x))) }

func silu64(x float64) float64 { return x * sigmoid64(x) }

func siluGrad64(x float64) float64 {
	s := sigmoid64(x)
	return s * (1 + x*(1-s))
}

// exponential is e^x as other kernels compute it.
func exponential(dst, src []float32) { vec().expScale(dst, src, 0, 1) }

func TestElementaryFunctions(t *testing.T) {
	functions := []struct {
		name   string
		f      func(dst, src []float32)
		want   func(float64) float64
		tol    float64
		lo, hi float64
	}{
		{"exp", exponential, math.Exp, 2e-7, -87.3, 88.72},
		{"silu", func(dst, src []float32) { vec().silu(dst, src) }, silu64, 4e-7, -87, 200},
		{"softplus", Softplus, softplus64, 4e-7, -87, 200},
	}
	eachLevel(t, func(t *testing.T) {
		for _, f := range functions {
			const n = 40000
			src, dst := guarded[float32](t, n), guarded[float32](t, n)
			for i := range src {
				x := f.lo + (f.hi-f.lo)*float64(i)/(n-1)
				if i%2 == 1 {
					x = (x - f.lo - (f.hi-f.lo)/2) / 50 // more of them around 0
				}
				src[i] = float32(x)
			}
			f.f(dst, src)
			worst, at := 0.0, 0.0
			for i, x := range wide(src) {
				want := f.want(x)
				if e := math.Abs(float64(dst[i])-want) / math.Abs(want); want != 0 && !(e <= worst) {
					worst, at = e, x
				}
			}
			t.Logf("%s: relative error %.2g at %g", f.name, worst, at)
			if !(worst <= f.tol) {
				t.Errorf("%s: relative error %.2g at %g, want %g", f.name, worst, at, f.tol)
			}
			for _, n := range sizes {
				src, dst := newSource(t).normal(n, 3), guarded[float32](t, n)
				f.f(dst, src)
				for i, x := range wide(src) {
					if e := math.Abs(float64(dst[i]) - f.want(x)); !(e <= f.tol*math.Abs(f.want(x))) {
						t.Fatalf("%s, size %d: f(%g) = %g, want %g", f.name, n, x, dst[i], f.want(x))
					}
				}
			}
		}
	})
}

func TestSpecialValues(t *testing.T) {
	inf := float32(math.Inf(1))
	nan := float32(math.NaN())
	special := []float32{nan, inf, -inf, 89, 1000, -105, -1000, 0}
	eachLevel(t, func(t *testing.T) {
		for name, c := range map[string]struct {
			f    func(dst, src []float32)
			want []float32
		}{
			"exp":      {exponential, []float32{nan, inf, 0, inf, inf, 0, 0, 1}},
			"silu":     {vec().silu, []float32{nan, inf, nan, 89, 1000, 0, 0, 0}},
			"softplus": {Softplus, []float32{nan, inf, 0, 89, 1000, 0, 0, math.Ln2}},
		} {
			got := make([]float32, len(special))
			c.f(got, special)
			for i, w := range c.want {
				if !(math.Abs(float64(got[i]-w)) < 1e-6 || got[i] == w || w != w && got[i] != got[i]) {
					t.Errorf("%s(%g) = %g, want %g", name, special[i], got[i], w)
				}
			}
		}
	})
}

func TestVectors(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, n := range sizes {
			s := newSource(t)
			a, b, c := s.normal(n, 1), s.normal(n, 1), s.normal(n, 1)
			la, lb, lc := wide(a), wide(b), wide(c)
			want := func(f func(i int) float64) []float64 {
				w := make([]float64, n)
				for i := range w {
					w[i] = f(i)
				}
				return w
			}
			y := s.normal(n, 1)
			ly := wide(y)
			vec().axpy(y, a, 0.5)
			near(t, "axpy", y, want(func(i int) float64 { return ly[i] + 0.5*la[i] }), 2e-7)
			y = s.junk(n)
			Scale(y, a, -2)
			near(t, "scale", y, want(func(i int) float64 { return -2 * la[i] }), 1e-7)
			vec().combine2(y, a, b, 0.25, 3)
			near(t, "combine2", y, want(func(i int) float64 { return 0.25*la[i] + 3*lb[i] }), 2e-7)
			vec().add(y, a, b)
			near(t, "add", y, want(func(i int) float64 { return la[i] + lb[i] }), 1e-7)
			ExpScale(y, a, 0.5, 3)
			near(t, "expScale", y, want(func(i int) float64 { return 3 * math.Exp(la[i]-0.5) }), 4e-7)

			var top, dot, dot3, squares, exps, size, size3 = math.Inf(-1), 0.0, 0.0, 0.0, 0.0, 1e-30, 1e-30
			for i := range n {
				top = max(top, la[i])
				dot += la[i] * lb[i]
				dot3 += la[i] * lb[i] * lc[i]
				size += math.Abs(la[i] * lb[i])
				size3 += math.Abs(la[i] * lb[i] * lc[i])
				squares += la[i] * la[i]
				exps += math.Exp(la[i] - 0.5)
			}
			if got := Max(a); float64(got) != top {
				t.Errorf("max of %d: %g, want %g", n, got, top)
			}
			for _, r := range []struct {
				name            string
				got, want, size float64
			}{
				{"dot", float64(Dot(a, b)), dot, size},
				{"dot3", float64(vec().dot3(a, b, c)), dot3, size3},
				{"sumSquares", SumSquares(a), squares, 1e-7 * squares},
				{"expSum", float64(ExpSum(a, 0.5)), exps, exps},
				{"expTo", float64(vec().expTo(a, 0.5)), exps, exps}, // last, as it writes over a
			} {
				if !(math.Abs(r.got-r.want) <= 1e-6*r.size) {
					t.Errorf("%s of %d: %g, want %g", r.name, n, r.got, r.want)
				}
			}
			near(t, "expTo", a, want(func(i int) float64 { return math.Exp(la[i] - 0.5) }), 4e-7)
			vec().probGrad(b, c, 0.5, 0.25)
			near(t, "probGrad, p", b, want(func(i int) float64 { return math.Exp(lb[i] - 0.5) }), 4e-7)
			near(t, "probGrad, ds", c, want(func(i int) float64 { return math.Exp(lb[i]-0.5) * (lc[i] - 0.25) }), 1e-6)
		}
	})
}

func TestSwiGLU(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, n := range sizes[1:] {
			s := newSource(t)
			const rows = 3
			gu, dy, y, dgu := s.normal(rows*2*n, 2), s.normal(rows*n, 1), s.junk(rows*n), s.junk(rows*2*n)
			wantY, wantD := make([]float64, rows*n), make([]float64, rows*2*n)
			for i := range wantY {
				r, j := i/n, i%n
				gate, up, d := float64(gu[r*2*n+j]), float64(gu[r*2*n+n+j]), float64(dy[i])
				wantY[i] = silu64(gate) * up
				wantD[r*2*n+j], wantD[r*2*n+n+j] = d*up*siluGrad64(gate), d*silu64(gate)
			}
			SwiGLU(y, gu, n)
			near(t, fmt.Sprintf("y, width %d", n), y, wantY, 4e-7)
			SwiGLUGrad(dgu, gu, dy, n)
			near(t, fmt.Sprintf("dgu, width %d", n), dgu, wantD, 1e-6)
			SwiGLUGrad(gu, gu, dy, n)
			near(t, "dgu in place", gu, wantD, 1e-6)
		}
	})
}

func TestAdamW(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, n := range sizes {
			s := newSource(t)
			p, m, v, g := s.normal(n, 1), s.normal(n, 0.1), s.normal(n, 0.1), s.normal(n, 1)
			for i := range v {
				v[i] *= v[i]
			}
			a := AdamW{LR: 1e-2, Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1,
				Correction1: 1 - 0.9*0.9, Correction2: 1 - 0.95*0.95, GradScale: 0.5}
			wp, wm, wv := wide(p), wide(m), wide(v)
			for i := range wp {
				grad := 0.5 * float64(g[i])
				wp[i] *= 1 - a.LR*a.WeightDecay
				wm[i] = a.Beta1*wm[i] + (1-a.Beta1)*grad
				wv[i] = a.Beta2*wv[i] + (1-a.Beta2)*grad*grad
				wp[i] -= a.LR / a.Correction1 * wm[i] / (math.Sqrt(wv[i])/math.Sqrt(a.Correction2) + a.Eps)
			}
			a.Step(p, m, v, g)
			near(t, "p", p, wp, 3e-7)
			near(t, "m", m, wm, 3e-7)
			near(t, "v", v, wv, 3e-7)
		}
	})
}
