package op

import (
	"fmt"
	"math"
	"testing"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

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
	p.wantDefined(t, g)
	compile(t, k, be, engine.Options{}, g, a, c).wantDefined(t, g, a, c) // outputs are not overwritten
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

// fusions are sums of products, and how many of the products can accumulate.
var fusions = []struct {
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
}

// TestFusedAccumulate: products that are only added to an earlier value, which dies,
// accumulate into it; those that are read elsewhere do not.
func TestFusedAccumulate(t *testing.T) {
	t.Parallel()
	for _, c := range fusions {
		t.Run(c.name, func(t *testing.T) {
			k := newKit(1)
			i := 0
			outs := c.build(k, k.fixed("a", 4, 4), k.fixed("b", 4, 4), func() *G.Node {
				i++
				return k.MatMul(k.fixed(fmt.Sprintf("x%d", i), 4, 4), k.fixed(fmt.Sprintf("y%d", i), 4, 4), false, true)
			})
			p := compile(t, k, newRefBackend(k.Graph()), engine.Options{}, outs...)
			if n := p.fused(); n != c.fused {
				t.Errorf("%d products accumulate, want %d", n, c.fused)
			}
			p.wantDefined(t, outs...)
		})
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
	compile(t, k, newRefBackend(k.Graph()), engine.Options{}, outs...).wantDefined(t, outs...)
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
	if p.fused() == 0 {
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
