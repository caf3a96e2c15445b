package op

import (
	"fmt"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/engine"
)

// TestCPU runs every case on the processor, and compares outputs and gradients
// with the references in float64. The number of threads changes no bit.
func TestCPU(t *testing.T) {
	t.Parallel()
	for _, s := range []size{small, short, one, odd} {
		for _, c := range cases {
			t.Run(fmt.Sprintf("%s/%s", c.name, s.name), func(t *testing.T) {
				t.Parallel()
				d := differentiate(t, c, s)
				want := d.evaluate(t, d.outputs()...)
				var first [][]float64
				for _, threads := range []int{1, 3} {
					be := cpu.New(threads)
					defer be.Close()
					got := runOn(t, be, d)
					for i, n := range d.outputs() {
						if e := relativeError(got[i], want[i]); len(got[i]) != len(want[i]) || e > 1e-5 {
							t.Errorf("%d threads: output %d, %v, is off by %.1e of its largest element", threads, i, n, e)
						}
					}
					if first == nil {
						first = got
					} else if diff := firstDifference(got, first); diff != "" {
						t.Errorf("%d threads: %s", threads, diff)
					}
				}
			})
		}
	}
}

// runOn runs a case twice, so that the second run finds the arena used, and
// returns its outputs.
func runOn(t *testing.T, be engine.Backend, d *differentiated) [][]float64 {
	t.Helper()
	p := compile(t, d.kit, be, engine.Options{}, d.outputs()...)
	defer p.plan.Close()
	for range 2 {
		p.load(t, func(dst *engine.Tensor, v []float64) error {
			if dst.DType == engine.Int32 {
				return be.Write(dst, toInt32(v))
			}
			return be.Write(dst, toFloat32(v))
		})
		if err := p.plan.Run(); err != nil {
			t.Fatal(err)
		}
	}
	got := make([][]float64, len(p.outs))
	for i, id := range p.outs {
		got[i] = readFrom(t, be, p.plan.Tensor(id))
	}
	return got
}

func readFrom(t *testing.T, be engine.Backend, src *engine.Tensor) []float64 {
	t.Helper()
	v := make([]float64, src.Size())
	if src.DType == engine.Int32 {
		ints := make([]int32, len(v))
		if err := be.Read(ints, src); err != nil {
			t.Fatal(err)
		}
		for i, x := range ints {
			v[i] = float64(x)
		}
		return v
	}
	floats := make([]float32, len(v))
	if err := be.Read(floats, src); err != nil {
		t.Fatal(err)
	}
	for i, x := range floats {
		v[i] = float64(x)
	}
	return v
}

func toInt32(v []float64) []int32 {
	ints := make([]int32, len(v))
	for i, x := range v {
		ints[i] = int32(x)
	}
	return ints
}
