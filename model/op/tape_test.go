package op

import (
	"math"
	"testing"

	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// TestTapeMachine runs the same graphs under gorgonia's own machine, in float32:
// the wiring of every operator, and of gradients that gorgonia adds up, is right
// also where our own evaluator could be wrong with it.
func TestTapeMachine(t *testing.T) {
	t.Parallel()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := differentiate(t, c, small)
			outputs := d.outputs()
			want := d.evaluate(t, outputs...)
			got := tape(t, d, outputs)
			for i, n := range outputs {
				if e := relativeError(got[i], want[i]); e > 2e-6 {
					t.Errorf("output %d, %v: off by %.1e of its largest element", i, n, e)
				}
			}
		})
	}
}

func tape(t *testing.T, d *differentiated, outputs nodes) [][]float64 {
	t.Helper()
	for _, n := range d.leaves {
		if err := G.Let(n, leafTensor(n, d.values[n])); err != nil {
			t.Fatal(err)
		}
	}
	// Read, as the value of a node that is used later may be overwritten.
	read := make([]G.Value, len(outputs))
	for i, n := range outputs {
		G.Read(n, &read[i])
	}
	vm := G.NewTapeMachine(d.Graph())
	defer vm.Close()
	if err := vm.RunAll(); err != nil {
		t.Fatal(err)
	}
	got := make([][]float64, len(outputs))
	for i, v := range read {
		got[i] = toFloat64(v)
	}
	return got
}

func leafTensor(n *G.Node, v []float64) tensor.Tensor {
	if n.Dtype() == tensor.Int32 {
		return tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(toInt32(v)))
	}
	return tensor.New(tensor.WithShape(n.Shape()...), tensor.WithBacking(toFloat32(v)))
}

func toFloat32(v []float64) []float32 {
	f := make([]float32, len(v))
	for i, x := range v {
		f[i] = float32(x)
	}
	return f
}

// relativeError is the largest difference, relative to the largest element.
func relativeError(got, want []float64) float64 {
	worst, top := 0.0, 1e-30
	for i := range want {
		worst = max(worst, math.Abs(got[i]-want[i]))
		if math.IsNaN(got[i]) {
			return math.Inf(1)
		}
		top = max(top, math.Abs(want[i]))
	}
	return worst / top
}
