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

// TestInPlace: a chain of additions and rotations lives in one buffer, but what is
// read again, an input, or an output keeps its own.
func TestInPlace(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	const rows, width = 4, 16
	x, y := k.fixed("x", rows, width), k.fixed("y", rows, width)
	a := k.Add(x, y)                       // cannot take an input's memory
	c := k.AddBias(a, k.fixed("b", width)) // takes a's
	e := k.Add(y, c)                       // takes c's, the second operand
	f := k.Add(e, e)                       // both operands are the same
	g := k.SwiGLU(f)                       // f dies, but sizes differ
	be := newRefBackend(k.Graph())
	p := compile(t, k, be, engine.Options{}, g)
	p.run(t)
	at := func(n *G.Node) int64 {
		id, _ := p.prog.Value(n)
		return p.plan.Tensor(id).Off
	}
	if at(a) != at(c) || at(c) != at(e) {
		t.Errorf("a chain in place lies at %d, %d, %d", at(a), at(c), at(e))
	}
	if at(f) == at(e) {
		t.Error("a sum of a value with itself took the value's memory")
	}
	want, err := Evaluate(k.Graph(), k.values, g)
	if err != nil {
		t.Fatal(err)
	}
	if got := p.run(t); relativeError(got[0], want[0]) > 1e-6 {
		t.Errorf("got %v, want %v", got[0], want[0])
	}
	kept := compile(t, k, be, engine.Options{}, g, a, c)
	got, want := kept.run(t), nil
	want, err = Evaluate(k.Graph(), k.values, g, a, c)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if e := relativeError(got[i], want[i]); e > 1e-6 {
			t.Errorf("output %d was overwritten: off by %.1e", i, e)
		}
	}
}

// TestUpdates: outputs that update an input leave it advanced, in the caller's
// memory where the caller placed it, and step after step.
func TestUpdates(t *testing.T) {
	t.Parallel()
	for _, bind := range []bool{false, true} {
		k := newKit(1)
		const rows, width = 3, 8
		sum := k.keep(k.Input("sum", rows, width), make([]float64, rows*width))
		x, w := k.fixed("x", rows, width), k.fixed("w", width, width)
		total := k.Accumulate(sum, k.MatMul(x, w, false, true))
		be := newRefBackend(k.Graph())
		prog, err := engine.Lower(k.Graph(), total)
		if err != nil {
			t.Fatal(err)
		}
		if n := len(prog.Instrs); n != 1 || prog.Instrs[0].Kernel != "matmul" || !prog.Instrs[0].Attrs.Bool("accumulate") {
			t.Fatalf("add of a product to a running sum is %v, not one product", prog.Instrs)
		}
		id, _ := prog.Value(sum)
		opt := engine.Options{}
		if bind {
			m, err := be.Alloc(4*rows*width + 64)
			if err != nil {
				t.Fatal(err)
			}
			opt.Bind = map[engine.ValueID]*engine.Tensor{id: {Shape: []int{rows * width}, Mem: m, Off: 64}}
		}
		p := compile(t, k, be, opt, total)
		if in, out := p.plan.Tensor(id), p.plan.Tensor(p.outs[0]); in.Mem != out.Mem || in.Off != out.Off {
			t.Fatal("the running sum is not updated in its memory")
		}
		p.run(t)
		for range 2 { // two steps more, without writing the sum again
			if err := p.plan.Run(); err != nil {
				t.Fatal(err)
			}
		}
		once, err := Evaluate(k.Graph(), k.values, total)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range p.read(t)[0] {
			if math.Abs(v-3*once[0][i]) > 1e-5 {
				t.Errorf("bind %t: element %d after three steps is %g, want %g", bind, i, v, 3*once[0][i])
			}
		}
	}
}

// TestUpdateOfASlice: a state may be a part of a larger one.
func TestUpdateOfASlice(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	state := k.fixed("state", 12)
	part := k.Slice(state, 4, 4)
	next := k.Accumulate(part, k.fixed("x", 4))
	p := compile(t, k, newRefBackend(k.Graph()), engine.Options{}, next, state)
	got := p.run(t)
	before, x := k.values[state], k.values[k.Lookup("x")]
	for i, v := range got[1] {
		want := before[i]
		if i >= 4 && i < 8 {
			want = float64(float32(before[i] + x[i-4]))
		}
		if v != want {
			t.Errorf("element %d of the state is %g, want %g", i, v, want)
		}
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
	p := compile(t, k, newRefBackend(k.Graph()), engine.Options{}, outs...)
	got := p.run(t)
	want, err := Evaluate(k.Graph(), k.values, outs...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		if e := relativeError(got[i], want[i]); e > 1e-6 {
			t.Errorf("output %d is off by %.1e", i, e)
		}
	}
}

// TestFusedAccumulate: products that are only added to an earlier value, which dies,
// accumulate into it; those that are read elsewhere do not.
func TestFusedAccumulate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		fused int
		build func(k *kit, a, b *G.Node, product func() *G.Node) nodes
	}{
		{"value + product", 1, func(k *kit, a, b *G.Node, product func() *G.Node) nodes {
			return nodes{k.Add(k.Add(a, b), product())}
		}},
		{"product + later value", 0, func(k *kit, a, b *G.Node, product func() *G.Node) nodes {
			return nodes{k.Add(product(), k.Add(a, b))}
		}},
		{"three products", 2, func(k *kit, a, b *G.Node, product func() *G.Node) nodes {
			return nodes{k.Add(k.Add(product(), product()), product())}
		}},
		{"a product with itself", 0, func(k *kit, a, b *G.Node, product func() *G.Node) nodes {
			p := product()
			return nodes{k.Add(p, p)}
		}},
		{"an input + product", 0, func(k *kit, a, b *G.Node, product func() *G.Node) nodes {
			return nodes{k.Add(a, product())}
		}},
		{"a product that is an output", 0, func(k *kit, a, b *G.Node, product func() *G.Node) nodes {
			p := product()
			return nodes{k.Add(k.Add(a, b), p), p}
		}},
		{"a value that is an output", 0, func(k *kit, a, b *G.Node, product func() *G.Node) nodes {
			v := k.Add(a, b)
			return nodes{k.Add(v, product()), v}
		}},
		{"a value that a slice shows", 0, func(k *kit, a, b *G.Node, product func() *G.Node) nodes {
			v := k.Add(a, b)
			return nodes{k.Add(v, product()), k.Slice(v, 3, 2)}
		}},
	} {
		k := newKit(1)
		i := 0
		outs := c.build(k, k.fixed("a", 4, 4), k.fixed("b", 4, 4), func() *G.Node {
			i++
			return k.MatMul(k.fixed(fmt.Sprintf("x%d", i), 4, 4), k.fixed(fmt.Sprintf("y%d", i), 4, 4), false, true)
		})
		p := compile(t, k, newRefBackend(k.Graph()), engine.Options{}, outs...)
		fused := 0
		for _, call := range p.plan.Calls() {
			if call.Attrs.Bool("accumulate") {
				fused++
			}
		}
		if fused != c.fused {
			t.Errorf("%s: %d products accumulate, want %d", c.name, fused, c.fused)
		}
		got := p.run(t)
		want, err := Evaluate(k.Graph(), k.values, outs...)
		if err != nil {
			t.Fatal(err)
		}
		for i := range want {
			if e := relativeError(got[i], want[i]); e > 1e-6 {
				t.Errorf("%s: output %d is off by %.1e", c.name, i, e)
			}
		}
	}
}

// TestUpdatesWaitForReaders: what reads a state before it is updated gets the old
// one, although the update could run earlier.
func TestUpdatesWaitForReaders(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	state := k.fixed("state", 4, 4)
	x := k.Add(k.fixed("a", 4, 4), k.fixed("b", 4, 4))
	y := k.SwiGLU(k.AddBias(state, k.fixed("c", 4)))
	next := k.Accumulate(state, x)
	after := k.Add(next, x)
	outs := nodes{y, next, after}
	want, err := Evaluate(k.Graph(), k.values, outs...)
	if err != nil {
		t.Fatal(err)
	}
	for i, v := range compile(t, k, newRefBackend(k.Graph()), engine.Options{}, outs...).run(t) {
		if e := relativeError(v, want[i]); e > 1e-6 {
			t.Errorf("output %d is off by %.1e", i, e)
		}
	}
}

// TestInPlaceNeedsEqualBytes: with bf16 activations a value in fp32 does not fit
// the memory of the activation it may take over.
func TestInPlaceNeedsEqualBytes(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	const n = 256
	x := k.Add(k.fixed("a", n), k.fixed("b", n))
	beside := k.Add(k.fixed("c", n), k.fixed("d", n))
	wide := k.apply(def{kernel: "test_widen", outs: []engine.Out{inPlace(f32(n), 0)},
		ref: func(in, out [][]float64) { copy(out[0], in[0]) }}, x)[0]
	be := newRefBackend(k.Graph())
	outs := nodes{wide, beside}
	for _, same := range []bool{true, false} {
		opt := engine.Options{Compute: engine.BFloat16}
		if same {
			opt.Compute = engine.Float32
		}
		p := compile(t, k, be, opt, outs...)
		ix, _ := p.prog.Value(x)
		if took := p.plan.Tensor(ix).Off == p.plan.Tensor(p.outs[0]).Off; took != same {
			t.Errorf("%v: in place is %t", opt.Compute, took)
		}
		opt.NoReuse = true
		if diff := firstDifference(p.run(t), compile(t, k, be, opt, outs...).run(t)); diff != "" {
			t.Errorf("%v: %s", opt.Compute, diff)
		}
	}
}

// TestAccumulatedValuesAreNotRecomputed: a forward sum that was taken in place has
// lost its operand, so it is kept.
func TestAccumulatedValuesAreNotRecomputed(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	d := &differentiated{kit: k}
	end := k.Layer(0)
	x, w := k.float("x", 4, 8), k.float("w", 8, 8)
	sum := k.Add(k.RMSNorm(x, k.float("norm", 8), 1e-5), k.MatMul(x, w, false, true))
	d.outs = nodes{k.SwiGLU(sum)}
	end()
	d.addGradients(t)
	be := newRefBackend(d.Graph())
	p := compile(t, k, be, engine.Options{Recompute: engine.RecomputeLayer}, d.outputs()...)
	fused := 0
	for _, c := range p.plan.Calls() {
		if c.Attrs.Bool("accumulate") {
			fused++
		}
	}
	if fused == 0 {
		t.Fatal("the forward sum is not fused: the test tests nothing")
	}
	want := compile(t, k, be, engine.Options{NoReuse: true}, d.outputs()...).run(t)
	if diff := firstDifference(p.run(t), want); diff != "" {
		t.Error(diff)
	}
}

// TestBoundValuesKeepTheirMemory: the caller may look at a value that is no output.
func TestBoundValuesKeepTheirMemory(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	x := k.Add(k.fixed("a", 4, 4), k.fixed("b", 4, 4))
	y := k.AddBias(x, k.fixed("c", 4)) // would take x's memory
	be := newRefBackend(k.Graph())
	prog, err := engine.Lower(k.Graph(), y)
	if err != nil {
		t.Fatal(err)
	}
	m, err := be.Alloc(64)
	if err != nil {
		t.Fatal(err)
	}
	id, _ := prog.Value(x)
	bound := &engine.Tensor{Shape: []int{4, 4}, Mem: m}
	compile(t, k, be, engine.Options{Bind: map[engine.ValueID]*engine.Tensor{id: bound}}, y).run(t)
	want, err := Evaluate(k.Graph(), k.values, x)
	if err != nil {
		t.Fatal(err)
	}
	got := make([]float64, 16)
	load(got, bound)
	if e := relativeError(got, want[0]); e > 1e-6 {
		t.Errorf("the bound value is off by %.1e", e)
	}
}

// recordingBackend records as a device with graphs does.
type recordingBackend struct {
	*refBackend
	recorded, started int
}

type recording struct {
	b   *recordingBackend
	run func() error
}

func (b *recordingBackend) Record(run func() error) (engine.Recording, error) {
	b.recorded++
	return recording{b, run}, nil
}

func (r recording) Start() error {
	r.b.started++
	return r.run()
}

func (r recording) Close() {}

// TestRecording: the first run is a plain one, the second is recorded, and from when
// somebody looks at the instructions on each is run by itself.
func TestRecording(t *testing.T) {
	t.Parallel()
	d := trainingStack(t, 3)
	be := &recordingBackend{refBackend: newRefBackend(d.Graph())}
	p := compile(t, d.kit, be, engine.Options{}, d.outputs()...)
	var want [][]float64
	for i, c := range []struct{ recorded, started int }{{0, 0}, {1, 1}, {1, 2}} {
		got := p.run(t)
		if i == 0 {
			want = got
		}
		if diff := firstDifference(got, want); diff != "" || be.recorded != c.recorded || be.started != c.started {
			t.Errorf("run %d: %d recorded, %d started, want %v; %s", i, be.recorded, be.started, c, diff)
		}
	}
	p.plan.Profile()
	p.run(t)
	if be.recorded != 1 || be.started != 2 {
		t.Errorf("profiled: %d recorded, %d started", be.recorded, be.started)
	}
}
