package op

import (
	"fmt"
	"testing"

	G "gorgonia.org/gorgonia"
	"pgregory.net/rapid"

	"jambalaya/internal/engine"
)

// drawing is a random graph over rows of two widths while it is drawn.
type drawing struct {
	*kit
	t     *rapid.T
	docs  *G.Node
	pool  map[int]nodes // values of each width
	used  map[*G.Node]bool
	views nodes
}

var drawnWidths = []int{4, 8}

const drawnRows = 3

func (d *drawing) pick(width int) *G.Node {
	n := rapid.SampledFrom(d.pool[width]).Draw(d.t, "operand")
	d.used[n] = true
	return n
}

func (d *drawing) add(width int, n ...*G.Node) { d.pool[width] = append(d.pool[width], n...) }

// weight returns one of three weights of a shape, so that some are shared.
func (d *drawing) weight(shape ...int) *G.Node {
	name := fmt.Sprintf("w%v.%d", shape, rapid.IntRange(0, 2).Draw(d.t, "weight"))
	if n := d.Lookup(name); n != nil {
		return n
	}
	return d.float(name, shape...)
}

// operator draws one.
func (d *drawing) operator() {
	w := rapid.SampledFrom(drawnWidths).Draw(d.t, "width")
	switch rapid.IntRange(0, 7).Draw(d.t, "operator") {
	case 0:
		d.add(w, d.Add(d.pick(w), d.pick(w)))
	case 1:
		from := rapid.SampledFrom(drawnWidths).Draw(d.t, "from")
		d.add(w, d.MatMul(d.pick(from), d.weight(w, from), false, true))
	case 2:
		d.add(w, d.AddBias(d.pick(w), d.weight(w)))
	case 3:
		y, sum := d.AddRMSNorm(d.pick(w), d.pick(w), d.weight(w), 0.1)
		d.add(w, y, sum)
	case 4:
		d.add(4, d.SwiGLU(d.pick(8)))
	case 5:
		y, _ := d.Conv1D(d.pick(w), d.weight(w, 2), nil, d.docs, nil, 1, drawnRows)
		d.add(w, y)
	case 6:
		d.add(w, d.RMSNorm(d.pick(w), d.weight(w), 0.1))
	case 7: // a view, and a view of it
		n := rapid.SampledFrom(d.pool[w]).Draw(d.t, "viewed")
		rows := d.Slice(n, w, 2, w)
		d.views = append(d.views, rows, d.Add(d.Slice(rows, 0, 1, w), d.Slice(n, 2*w, 1, w)))
	}
}

// drawGraph builds a random graph, in random layers, with views, values that are
// used many times, weights that are shared, and running sums; results are a random
// choice of its outputs, gradients and views.
func drawGraph(t *rapid.T) (d *differentiated, results nodes) {
	k := newKit(rapid.Uint64().Draw(t, "seed"))
	draw := &drawing{kit: k, t: t, docs: k.ints("docs", []int{0, 0, 1}, 1, drawnRows), pool: map[int]nodes{}, used: map[*G.Node]bool{}}
	for _, w := range drawnWidths {
		draw.add(w, k.float(fmt.Sprintf("x%d", w), drawnRows, w))
	}
	for i := range rapid.IntRange(1, 14).Draw(t, "operators") {
		end := k.Layer(i / 3)
		draw.operator()
		end()
	}
	d = &differentiated{kit: k}
	for _, w := range drawnWidths { // whatever is not used is an output, so that all weights have a gradient
		for _, n := range draw.pool[w] {
			if !draw.used[n] {
				d.outs = append(d.outs, n)
			}
		}
	}
	var err error
	for i, o := range d.outs {
		d.seeds = append(d.seeds, k.fixed(fmt.Sprintf("seed.%d", i), o.Shape()...))
	}
	if d.grads, err = k.Gradients(d.outs, d.seeds, k.wrt); err != nil {
		t.Fatal(err)
	}
	for _, n := range append(d.outputs(), draw.views...) {
		if rapid.Bool().Draw(t, "wanted") {
			results = append(results, n)
		}
	}
	for i, g := range d.grads {
		if rapid.IntRange(0, 3).Draw(t, "accumulated") == 0 {
			results = append(results, k.Accumulate(k.fixed(fmt.Sprintf("sum.%d", i), g.Shape()...), g))
		}
	}
	if len(results) == 0 {
		results = d.outs
	}
	return d, results
}

// TestRandomGraphs: whatever the graph, a shared arena, recomputation and a second
// run change no bit, and the result is what Evaluate says.
func TestRandomGraphs(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		d, results := drawGraph(rt)
		be := newRefBackend(d.Graph())
		run := func(opt engine.Options) [][]float64 {
			prog, err := engine.Lower(d.Graph(), results...)
			if err != nil {
				rt.Fatal(err)
			}
			plan, err := engine.NewPlan(prog, be, opt)
			if err != nil {
				rt.Fatal(err)
			}
			p := &planned{be: be, prog: prog, plan: plan, kit: d.kit, outs: prog.Outputs}
			first := p.run(t)
			if diff := firstDifference(p.run(t), first); diff != "" {
				rt.Fatalf("%+v: the second run differs: %s", opt, diff)
			}
			if u := plan.Usage(); u.Arena < u.PeakLive || u.Arena > u.Sum {
				rt.Fatalf("%+v: %+v", opt, u)
			}
			return first
		}
		want := run(engine.Options{NoReuse: true})
		exact, err := Evaluate(d.Graph(), d.values, results...)
		if err != nil {
			rt.Fatal(err)
		}
		for i := range exact {
			if e := relativeError(want[i], exact[i]); e > 1e-3 { // sums of many terms cancel
				rt.Fatalf("output %d, %v, is off by %.1e", i, results[i], e)
			}
		}
		for _, opt := range planOptions {
			if diff := firstDifference(run(opt), want); diff != "" {
				rt.Fatalf("%+v: %s", opt, diff)
			}
		}
		mixed := run(engine.Options{Compute: engine.BFloat16, NoReuse: true})
		for _, opt := range planOptions {
			opt.Compute = engine.BFloat16
			if diff := firstDifference(run(opt), mixed); diff != "" {
				rt.Fatalf("%+v: %s", opt, diff)
			}
		}
	})
}
