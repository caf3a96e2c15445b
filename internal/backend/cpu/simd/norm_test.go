package simd

import (
	"fmt"
	"math"
	"testing"
)

// numericGrad is the gradient of f with respect to x by central differences.
func numericGrad(x []float64, f func() float64) []float64 {
	const h = 1e-5
	g := make([]float64, len(x))
	for i, v := range x {
		x[i] = v + h
		up := f()
		x[i] = v - h
		g[i] = (up - f()) / (2 * h)
		x[i] = v
	}
	return g
}

// inner is the inner product with the gradient of an output: the loss whose gradients are checked.
func inner(a, b []float64) float64 {
	var s float64
	for i, v := range a {
		s += v * b[i]
	}
	return s
}

// normRef is RMSNorm of rows of len(w) elements at distance ld.
func normRef(x, w []float64, rows, ld int, eps float64) (y, rstd []float64) {
	for t := range rows {
		row, ss := x[t*ld:][:len(w)], 0.0
		for _, v := range row {
			ss += v * v
		}
		r := 1 / math.Sqrt(ss/float64(len(w))+eps)
		rstd = append(rstd, r)
		for i, v := range row {
			y = append(y, v*r*w[i])
		}
	}
	return y, rstd
}

func TestRMSNorm(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, h := range []int{3, 5, 16, 33, 64, 100} {
			s := newSource(t)
			const rows, eps = 3, 1e-5
			x, delta, w, dy, dsum := s.normal(rows*h, 1), s.normal(rows*h, 1), s.normal(h, 1), s.normal(rows*h, 1), s.normal(rows*h, 1)
			y, rstd, sum := s.junk(rows*h), s.junk(rows), s.junk(rows*h)

			RMSNorm(y, rstd, nil, x, nil, w, eps)
			wantY, wantR := normRef(wide(x), wide(w), rows, h, eps)
			near(t, "y", y, wantY, 1e-6)
			near(t, "rstd", rstd, wantR, 1e-6)

			RMSNorm(y, rstd, sum, x, delta, w, eps)
			ls, lw := wide(sum), wide(w)
			for i := range ls {
				if sum[i] != x[i]+delta[i] {
					t.Fatalf("sum[%d] = %g, want %g", i, sum[i], x[i]+delta[i])
				}
			}
			wantY, wantR = normRef(ls, lw, rows, h, eps)
			near(t, "y of the sum", y, wantY, 1e-6)
			near(t, "rstd of the sum", rstd, wantR, 1e-6)

			loss := func() float64 {
				y, _ := normRef(ls, lw, rows, h, eps)
				return inner(y, wide(dy)) + inner(ls, wide(dsum))
			}
			wantX, wantW := numericGrad(ls, loss), numericGrad(lw, loss)
			dx, dw := s.junk(rows*h), s.zeros(h)
			RMSNormGrad(dx, dw, sum, w, rstd, dy, dsum, s.zeros(h))
			near(t, "dx", dx, wantX, 2e-6)
			near(t, "dw", dw, wantW, 2e-6)
			RMSNormGrad(dsum, dw, sum, w, rstd, dy, dsum, s.zeros(h))
			near(t, "dx in place", dsum, wantX, 2e-6)
			for i := range dsum {
				dsum[i] = 0
			}
			wantX, dw = numericGrad(ls, loss), s.zeros(h)
			RMSNormGrad(dx, dw, sum, w, rstd, dy, nil, s.zeros(h))
			near(t, "dx without dsum", dx, wantX, 2e-6)
		}
	})
}

func TestSplitNorm(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, widths := range [][3]int{{16, 16, 16}, {5, 8, 8}, {1, 5, 5}, {33, 16, 16}} {
			for _, norm := range []bool{true, false} {
				testSplitNorm(t, 3, widths, norm)
			}
		}
		testSplitNorm(t, splitRows+5, [3]int{3, 9, 9}, true)
	})
}

func testSplitNorm(t *testing.T, rows int, widths [3]int, norm bool) {
	s := newSource(t)
	const eps = 1e-5
	ld := widths[0] + widths[1] + widths[2]
	p, rstd, dp := s.normal(rows*ld, 1), s.junk(3*rows), s.junk(rows*ld)
	var out, w, dout, dw [3][]float32
	lp, lw := wide(p), [3][]float64{}
	for i, n := range widths {
		out[i], dout[i] = s.junk(rows*n), s.normal(rows*n, 1)
		if norm {
			w[i], dw[i] = s.normal(n, 1), s.zeros(n)
			lw[i] = wide(w[i])
		}
	}
	part := func(i int) (y, r []float64) {
		at := 0
		for _, n := range widths[:i] {
			at += n
		}
		if norm {
			return normRef(lp[at:], lw[i], rows, ld, eps)
		}
		for t := range rows {
			y = append(y, lp[t*ld+at:][:widths[i]]...)
		}
		return y, nil
	}
	loss := func() (sum float64) {
		for i := range 3 {
			y, _ := part(i)
			sum += inner(y, wide(dout[i]))
		}
		return sum
	}
	SplitNorm(out, rstd, p, w, widths, eps)
	SplitNormGrad(dp, dw, p, rstd, w, dout, widths)
	for i := range 3 {
		y, r := part(i)
		near(t, fmt.Sprintf("out %d of %v", i, widths), out[i], y, 1e-6)
		for t0, v := range r {
			if math.Abs(float64(rstd[3*t0+i])/v-1) > 1e-6 {
				t.Errorf("rstd[%d,%d] = %g, want %g", t0, i, rstd[3*t0+i], v)
			}
		}
		if norm {
			near(t, fmt.Sprintf("dw %d of %v", i, widths), dw[i], numericGrad(lw[i], loss), 2e-6)
		}
	}
	near(t, fmt.Sprintf("dp of %v", widths), dp, numericGrad(lp, loss), 2e-6)
}
