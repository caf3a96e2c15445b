package op

import (
	"fmt"
	"math"
	"testing"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// planned is a plan with the values of a kit.
type planned struct {
	be   engine.Backend
	prog *engine.Program
	plan *engine.Plan
	kit  *kit
	outs []engine.ValueID
}

// compile lowers the outputs of a graph and fits them to a backend.
func compile(t testing.TB, k *kit, be engine.Backend, opt engine.Options, outs ...*G.Node) *planned {
	t.Helper()
	prog, err := engine.Lower(k.Graph(), outs...)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := engine.NewPlan(prog, be, opt)
	if err != nil {
		t.Fatal(err)
	}
	return &planned{be: be, prog: prog, plan: plan, kit: k, outs: prog.Outputs}
}

// load writes the inputs that the program has.
func (p *planned) load(t testing.TB, write func(*engine.Tensor, []float64) error) {
	t.Helper()
	for _, n := range p.kit.leaves {
		if id, ok := p.prog.Value(n); ok {
			if err := write(p.plan.Tensor(id), p.kit.values[n]); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// run runs a plan of the reference backend and returns its outputs.
func (p *planned) run(t testing.TB) [][]float64 {
	t.Helper()
	p.load(t, func(dst *engine.Tensor, v []float64) error { return p.be.Write(dst, v) })
	if err := p.plan.Run(); err != nil {
		t.Fatal(err)
	}
	return p.read(t)
}

func (p *planned) read(t testing.TB) [][]float64 {
	t.Helper()
	got := make([][]float64, len(p.outs))
	for i, id := range p.outs {
		got[i] = make([]float64, p.plan.Tensor(id).Size())
		if err := p.be.Read(got[i], p.plan.Tensor(id)); err != nil {
			t.Fatal(err)
		}
	}
	return got
}

// wantDefined runs the plan and compares every output with its definition.
func (p *planned) wantDefined(t testing.TB, outs ...*G.Node) {
	t.Helper()
	want, err := Evaluate(p.kit.Graph(), p.kit.values, outs...)
	if err != nil {
		t.Fatal(err)
	}
	for i, got := range p.run(t) {
		if e := relativeError(got, want[i]); e > 1e-6 {
			t.Errorf("output %d is off by %.1e of its largest element", i, e)
		}
	}
}

// fused counts the products that accumulate.
func (p *planned) fused() int {
	n := 0
	for _, c := range p.plan.Calls() {
		if c.Attrs.Bool("accumulate") {
			n++
		}
	}
	return n
}

// firstDifference compares bits; it returns "" if there is none.
func firstDifference(got, want [][]float64) string {
	for i := range want {
		for j := range want[i] {
			if math.Float64bits(got[i][j]) != math.Float64bits(want[i][j]) {
				return fmt.Sprintf("element %d of output %d is %g, want %g", j, i, got[i][j], want[i][j])
			}
		}
	}
	return ""
}

var planOptions = []engine.Options{
	{},
	{Recompute: engine.RecomputeCheap},
	{Recompute: engine.RecomputeLayer},
	{Recompute: engine.RecomputeLayer, NoReuse: true},
}

// TestPlansOfOperators: every case gives the same bits in memory of its own and in
// a shared arena, run after run, and what Evaluate gives up to the rounding of
// what is stored.
func TestPlansOfOperators(t *testing.T) {
	t.Parallel()
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := differentiate(t, c, small)
			be := newRefBackend(d.Graph())
			want := compile(t, d.kit, be, engine.Options{NoReuse: true}, d.outputs()...).run(t)
			for i, v := range d.evaluate(t, d.outputs()...) {
				if e := relativeError(want[i], v); e > 2e-6 {
					t.Errorf("output %d is off by %.1e of its largest element", i, e)
				}
			}
			for _, opt := range planOptions {
				p := compile(t, d.kit, be, opt, d.outputs()...)
				for range 2 { // the second finds the arena used
					if diff := firstDifference(p.run(t), want); diff != "" {
						t.Errorf("%+v: %s", opt, diff)
					}
				}
			}
		})
	}
}

// TestSlices: views hold on to what they look at, and may be looked at in turn.
func TestSlices(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	x := k.Add(k.fixed("a", 6, 4), k.fixed("b", 6, 4))
	rows := k.Slice(x, 8, 3, 4)
	row := k.Slice(rows, 4, 1, 4)
	y := x // enough work to want the memory again
	for i := range 5 {
		y = k.Add(y, k.fixed(fmt.Sprintf("c%d", i), 6, 4))
	}
	z := k.Add(row, row)
	outs := nodes{z, y, row}
	compile(t, k, newRefBackend(k.Graph()), engine.Options{}, outs...).wantDefined(t, outs...)
}
