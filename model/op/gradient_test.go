package op

import (
	"math"
	"testing"

	G "gorgonia.org/gorgonia"
)

// TestGradients compares every gradient with finite differences of fourth order,
// both in float64.
func TestGradients(t *testing.T) {
	t.Parallel()
	for _, s := range []size{small, short} {
		for _, c := range cases {
			t.Run(c.name+"/"+s.name, func(t *testing.T) {
				t.Parallel()
				d := differentiate(t, c, s)
				if len(d.outs) == 0 {
					return // has no gradient
				}
				got := d.evaluate(t, d.grads...)
				for i, x := range d.wrt {
					compareSlopes(t, d, x, got[i], s.name == small.name)
				}
			})
		}
	}
}

// compareSlopes checks the gradient of one input. The error is relative to the
// largest slope of the input, which must not be zero where the input matters.
func compareSlopes(t *testing.T, d *differentiated, x *G.Node, got []float64, matters bool) {
	t.Helper()
	want := make([]float64, len(got))
	top := 0.0
	for i := range want {
		want[i] = slope(t, d, &d.values[x][i])
		top = max(top, math.Abs(want[i]))
	}
	if matters && top == 0 {
		t.Errorf("%s has no influence: the case tests nothing", x.Name())
	}
	for i := range want {
		if e := math.Abs(got[i] - want[i]); !(e <= 2e-9*top+1e-11) {
			t.Errorf("gradient of %s[%d] is %.12g, want %.12g: off by %.1e of %g", x.Name(), i, got[i], want[i], e, top)
		}
	}
}

// slope is (8 (f(h) - f(-h)) - (f(2h) - f(-2h))) / 12h.
func slope(t *testing.T, d *differentiated, x *float64) float64 {
	t.Helper()
	const h = 1e-3
	at := *x
	defer func() { *x = at }()
	f := func(offset float64) float64 {
		*x = at + offset
		sum := 0.0
		for i, out := range d.evaluate(t, d.outs...) {
			for j, v := range out {
				sum += v * d.values[d.seeds[i]][j]
			}
		}
		return sum
	}
	return (8*(f(h)-f(-h)) - (f(2*h) - f(-2*h))) / (12 * h)
}

// TestPaddingTokenHasNoGradient: finite differences cannot see what Embedding
// leaves out on purpose.
func TestPaddingTokenHasNoGradient(t *testing.T) {
	t.Parallel()
	const vocab, h, pad = 3, 2, 1
	grads := func(pad int) []float64 {
		k := newKit(1)
		d := &differentiated{kit: k}
		d.outs = nodes{k.Embedding(k.float("table", vocab, h), k.ints("ids", []int{0, 1, 2, 1}, 1, 4), pad)}
		d.addGradients(t)
		return d.evaluate(t, d.grads[0])[0]
	}
	all, without := grads(-1), grads(pad)
	for i := range all {
		if want := all[i]; i/h == pad && without[i] != 0 || i/h != pad && without[i] != want {
			t.Errorf("gradient of element %d is %g; without a padding token %g", i, without[i], want)
		}
	}
}
