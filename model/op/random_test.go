package op

import (
	"fmt"
	"testing"

	G "gorgonia.org/gorgonia"
	"pgregory.net/rapid"

	"jambalaya/internal/engine"
)

// drawGraph builds a random graph over rows of two widths, in random layers, with
// views, values that are used many times, weights that are shared, and running
// sums; results are a random choice of its outputs, gradients and views.
func drawGraph(t *rapid.T) (d *differentiated, results nodes) {
	const batch, length, rows = 1, 3, 3
	k := newKit(rapid.Uint64().Draw(t, "seed"))
	d = &differentiated{kit: k}
	widths := []int{4, 8}
	pool := map[int]nodes{} // values of each width
	used := map[*G.Node]bool{}
	pick := func(w int) *G.Node {
		n := rapid.SampledFrom(pool[w]).Draw(t, "operand")
		used[n] = true
		return n
	}
	weight := func(shape ...int) *G.Node {
		name := fmt.Sprintf("w%v.%d", shape, rapid.IntRange(0, 2).Draw(t, "weight"))
		if n := k.Lookup(name); n != nil {
			return n
		}
		return k.float(name, shape...)
	}
	docs := k.ints("docs", []int{0, 0, 1}, batch, length)
	for _, w := range widths {
		pool[w] = nodes{k.float(fmt.Sprintf("x%d", w), rows, w)}
	}
	var views nodes
	for i := range rapid.IntRange(1, 14).Draw(t, "operators") {
		end := k.Layer(i / 3)
		w := rapid.SampledFrom(widths).Draw(t, "width")
		add := func(n ...*G.Node) { pool[w] = append(pool[w], n...) }
		switch rapid.IntRange(0, 7).Draw(t, "operator") {
		case 0:
			add(k.Add(pick(w), pick(w)))
		case 1:
			from := rapid.SampledFrom(widths).Draw(t, "from")
			add(k.MatMul(pick(from), weight(w, from), false, true))
		case 2:
			add(k.AddBias(pick(w), weight(w)))
		case 3:
			y, sum := k.AddRMSNorm(pick(w), pick(w), weight(w), 0.1)
			add(y, sum)
		case 4:
			w = 4
			add(k.SwiGLU(pick(8)))
		case 5:
			y, _ := k.Conv1D(pick(w), weight(w, 2), nil, docs, nil, batch, length)
			add(y)
		case 6:
			add(k.RMSNorm(pick(w), weight(w), 0.1))
		case 7: // a view, and a view of it
			n := rapid.SampledFrom(pool[w]).Draw(t, "viewed")
			rowsOf := k.Slice(n, w, 2, w)
			views = append(views, rowsOf, k.Add(k.Slice(rowsOf, 0, 1, w), k.Slice(n, 2*w, 1, w)))
		}
		end()
	}
	for _, w := range widths { // whatever is not used is an output, so that all weights have a gradient
		for _, n := range pool[w] {
			if !used[n] {
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
	for _, n := range append(d.outputs(), views...) {
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
