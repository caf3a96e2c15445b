package simd

import (
	"fmt"
	"testing"
)

// convCase holds one row of a batch in float64, w as [Dim, Kernel].
type convCase struct {
	length, dim, kernel int
	x, w, b, s0         []float64
	docs                []int32
}

// input is element d of position t, of the state where t is negative.
func (c *convCase) input(t, d int) float64 {
	if t >= 0 {
		return c.x[t*c.dim+d]
	}
	if c.s0 == nil {
		return 0
	}
	return c.s0[(t+c.kernel-1)*c.dim+d]
}

func (c *convCase) sees(t, s int) bool { return c.docs[t] == c.docs[max(s, 0)] }

func (c *convCase) forward() (y, s1 []float64) {
	for t := range c.length {
		for d := range c.dim {
			pre := c.b[d]
			for q := range c.kernel {
				if c.sees(t, t-q) {
					pre += c.w[d*c.kernel+c.kernel-1-q] * c.input(t-q, d)
				}
			}
			y = append(y, silu64(pre))
		}
	}
	for t := c.length - c.kernel + 1; t < c.length; t++ {
		for d := range c.dim {
			v := 0.0
			if c.sees(c.length-1, t) {
				v = c.input(t, d)
			}
			s1 = append(s1, v)
		}
	}
	return y, s1
}

func TestConv(t *testing.T) {
	eachLevel(t, func(t *testing.T) {
		for _, kernel := range []int{1, 2, 4, 5} {
			for _, length := range []int{1, 2, 3, 7, 19} {
				for _, dim := range []int{3, 16, 37} {
					for _, state := range []bool{false, true} {
						testConv(t, length, dim, kernel, state)
					}
				}
			}
		}
	})
}

func testConv(t *testing.T, length, dim, kernel int, state bool) {
	s := newSource(t)
	name := fmt.Sprintf("length %d, dim %d, kernel %d, state %v: ", length, dim, kernel, state)
	states := (kernel - 1) * dim
	x, w, b, docs := s.normal(length*dim, 1), s.normal(dim*kernel, 1), s.normal(dim, 1), s.documents(length)
	dy, dx := s.normal(length*dim, 1), s.junk(length*dim)
	wt, dwt, dw, db := s.junk(kernel*dim), s.zeros(kernel*dim), s.zeros(kernel*dim), s.zeros(dim)
	var s0, ds0, ds1 []float32
	if state {
		s0, ds0, ds1 = s.normal(states, 1), s.junk(states), s.normal(states, 1)
	}
	y, s1 := s.junk(length*dim), s.junk(states)

	ConvWeights(wt, w, dim, kernel)
	c := Conv{Length: length, Dim: dim, Kernel: kernel, X: x, W: wt, B: b, S0: s0, Docs: docs, Zeros: s.zeros(dim)}
	half := length / 2
	c.Forward(y, 0, half)
	c.Forward(y, half, length)
	c.State(s1)
	ref := convCase{length, dim, kernel, wide(x), wide(w), wide(b), wide(s0), docs}
	wantY, wantS := ref.forward()
	near(t, name+"y", y, wantY, 1e-6)
	near(t, name+"s1", s1, wantS, 0)

	work := s.junk(c.GradWork(length))
	if half > 0 {
		c.Grad(dx, ds0, dwt, db, dy, ds1, work, 0, half)
	}
	c.Grad(dx, ds0, dwt, db, dy, ds1, work, half, length)
	ConvWeightsGrad(dw, dwt, dim, kernel)
	loss := func() float64 {
		y, s1 := ref.forward()
		sum := inner(y, wide(dy))
		if state {
			sum += inner(s1, wide(ds1))
		}
		return sum
	}
	near(t, name+"dx", dx, numericGrad(ref.x, loss), 3e-6)
	near(t, name+"dw", dw, numericGrad(ref.w, loss), 3e-6)
	near(t, name+"db", db, numericGrad(ref.b, loss), 3e-6)
	if state {
		near(t, name+"ds0", ds0, numericGrad(ref.s0, loss), 3e-6)
	}
}
