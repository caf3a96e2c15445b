package simd

import (
	"fmt"
	"math"
	"testing"
)

// scanCase holds one row of a batch in float64.
type scanCase struct {
	Scan
	x, dt, z, bias, alog, d, b, c, h0 []float64
}

func newScanCase(s Scan) *scanCase {
	return &scanCase{s, wide(s.X), wide(s.Dt), wide(s.Z), wide(s.Bias), wide(s.ALog), wide(s.DSkip), wide(s.B), wide(s.C), wide(s.H0)}
}

func (s *scanCase) forward() (y, h1, starts []float64) {
	n := s.States
	h := make([]float64, s.Dim*n)
	copy(h, s.h0)
	a := make([]float64, len(h))
	for i, v := range s.alog {
		a[i] = -math.Exp(v)
	}
	for t := range s.Length {
		if t%s.Chunk == 0 {
			starts = append(starts, h...)
		}
		if t > 0 && s.Docs[t] != s.Docs[t-1] {
			clear(h)
		}
		for d := range s.Dim {
			i := t*s.Dim + d
			delta, sum := softplus64(s.dt[i]+s.bias[d]), s.d[d]*s.x[i]
			for k := range n {
				h[d*n+k] = math.Exp(a[d*n+k]*delta)*h[d*n+k] + delta*s.x[i]*s.b[t*n+k]
				sum += s.c[t*n+k] * h[d*n+k]
			}
			y = append(y, sum*silu64(s.z[i]))
		}
	}
	return y, h, starts
}

func randomScan(s source, length, dim, states, chunk int, state bool) Scan {
	c := Scan{Length: length, Dim: dim, States: states, Chunk: chunk,
		X: s.normal(length*dim, 1), Dt: s.normal(length*dim, 1), Z: s.normal(length*dim, 1),
		Bias: s.normal(dim, 0.5), ALog: s.normal(dim*states, 0.5), DSkip: s.normal(dim, 1),
		B: s.normal(length*states, 1), C: s.normal(length*states, 1), Docs: s.documents(length)}
	if state {
		c.H0 = s.normal(dim*states, 1)
	}
	return c
}

func TestScan(t *testing.T) {
	for _, shape := range []struct{ length, dim, states, chunk int }{
		{1, 1, 5, 4}, {9, 3, 5, 4}, {8, 17, 8, 3}, {7, 16, 16, 16}, {13, 16, 16, 4}, {5, 20, 16, 3}, {4, 48, 16, 2}, {6, 33, 8, 4}, {3, 16, 40, 2},
	} {
		for _, state := range []bool{false, true} {
			name := fmt.Sprintf("%+v, state %v: ", shape, state)
			testScan(t, name, randomScan(newSource(t), shape.length, shape.dim, shape.states, shape.chunk, state))
		}
	}
}

func testScan(t *testing.T, name string, c Scan) {
	s := newSource(t)
	size, states := c.Length*c.Dim, c.Dim*c.States
	y, h1, starts := s.junk(size), s.junk(states), s.junk(c.chunks()*states)
	g := ScanGrads{DX: s.junk(size), DDt: s.junk(size), DZ: s.junk(size),
		DBias: s.junk(c.Dim), DALog: s.junk(states), DDSkip: s.junk(c.Dim), DY: s.normal(size, 1), Starts: starts}
	if c.H0 != nil {
		g.DH0, g.DH1 = s.junk(states), s.normal(states, 1)
	}
	ref := newScanCase(c)
	wantY, wantH, wantStarts := ref.forward()
	want := ref.grads(wide(g.DY), wide(g.DH1))

	eachLevel(t, func(t *testing.T) {
		cut := c.Dim / 16 / 2 * 16 // two ranges of channels, as two tasks would
		ranges := [][2]int{{0, cut}, {cut, c.Dim}}
		for _, r := range ranges {
			c.Forward(y, h1, starts, s.junk(c.ForwardWork(r[1]-r[0])), r[0], r[1])
		}
		near(t, name+"y", y, wantY, 1e-6)
		near(t, name+"h1", h1, wantH, 1e-6)
		near(t, name+"starts", starts, wantStarts, 1e-6)

		db, dc := make([]float32, c.Length*c.States), make([]float32, c.Length*c.States)
		for _, r := range ranges {
			g.DB, g.DC = s.junk(len(db)), s.junk(len(dc))
			c.Grad(&g, s.junk(c.GradWork(r[1]-r[0])), r[0], r[1])
			SumRows(db, g.DB)
			SumRows(dc, g.DC)
		}
		for i, got := range [][]float32{g.DX, g.DDt, g.DZ, g.DBias, g.DALog, g.DDSkip, db, dc, g.DH0} {
			near(t, name+"gradient of "+scanInputs[i], got, want[i], 5e-6)
		}
	})
}

var scanInputs = []string{"x", "dt", "z", "bias", "alog", "dskip", "b", "c", "h0"}

// grads are the gradients of scanInputs.
func (s *scanCase) grads(dy, dh1 []float64) (grads [][]float64) {
	loss := func() float64 {
		y, h1, _ := s.forward()
		sum := inner(y, dy)
		if dh1 != nil {
			sum += inner(h1, dh1)
		}
		return sum
	}
	for _, x := range [][]float64{s.x, s.dt, s.z, s.bias, s.alog, s.d, s.b, s.c, s.h0} {
		grads = append(grads, numericGrad(x, loss))
	}
	return grads
}
