package op

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// trainingStack is a graph with the shape of the model's: a residual stream
// through layers that all use one weight, whose gradients are therefore summed.
func trainingStack(t testing.TB, layers int) *differentiated {
	t.Helper()
	k := newKit(1)
	const rows, width = 16, 16
	d := &differentiated{kit: k}
	w, down, norm := k.float("w", 2*width, width), k.float("down", width, width), k.float("norm", width)
	x, delta := k.float("x", rows, width), k.float("delta", rows, width)
	for i := range layers {
		end := k.Layer(i)
		var y *G.Node
		y, x = k.AddRMSNorm(x, delta, norm, 1e-5)
		delta = k.MatMul(k.SwiGLU(k.MatMul(y, w, false, true)), down, false, true)
		end()
	}
	d.outs = nodes{k.Add(x, delta)}
	d.addGradients(t)
	return d
}

// TestBoundGradients: gradients land in the memory that the caller gave, and
// nothing around it is touched, in fp32 and with bf16 activations.
func TestBoundGradients(t *testing.T) {
	t.Parallel()
	for _, compute := range []engine.DType{engine.Float32, engine.BFloat16} {
		d := trainingStack(t, 3)
		be := newRefBackend(d.Graph())
		prog, err := engine.Lower(d.Graph(), d.outputs()...)
		if err != nil {
			t.Fatal(err)
		}
		free := compile(t, d.kit, be, engine.Options{Compute: compute, NoReuse: true}, d.outputs()...)
		want := free.run(t)
		const guard = 64
		bind := map[engine.ValueID]*engine.Tensor{}
		blocks := map[int]*engine.Tensor{}
		for i, g := range d.grads {
			id, _ := prog.Value(g)
			if bind[id] != nil { // x and delta have one gradient
				continue
			}
			m, err := be.Alloc(int64(4*g.Shape().TotalSize() + 2*guard))
			if err != nil {
				t.Fatal(err)
			}
			bind[id] = &engine.Tensor{Shape: []int{g.Shape().TotalSize()}, DType: engine.Float32, Mem: m, Off: guard}
			blocks[i] = bind[id]
		}
		p := compile(t, d.kit, be, engine.Options{Compute: compute, Bind: bind}, d.outputs()...)
		got := p.run(t)
		for i, b := range blocks {
			v := make([]float64, b.Size())
			load(v, b)
			tolerance := 0.0 // sums are accumulated in the memory of the output
			if compute == engine.BFloat16 {
				tolerance = 0.02
			}
			if e := relativeError(v, want[len(d.outs)+i]); e > tolerance {
				t.Errorf("%v: gradient of %s is off by %.1e", compute, d.wrt[i].Name(), e)
			}
			if !slices.Equal(v, got[len(d.outs)+i]) {
				t.Errorf("%v: gradient of %s is not what Tensor shows", compute, d.wrt[i].Name())
			}
			data := b.Mem.(*refMemory).data
			for _, x := range append(slices.Clone(data[:guard]), data[len(data)-guard:]...) {
				if x != 0xff {
					t.Fatalf("%v: memory beside the gradient of %s was written", compute, d.wrt[i].Name())
				}
			}
		}
	}
}

// TestMixedPrecision: with bf16 activations a shared arena still gives the bits of
// the plan without reuse, and statistics stay in fp32.
func TestMixedPrecision(t *testing.T) {
	t.Parallel()
	d := trainingStack(t, 3)
	be := newRefBackend(d.Graph())
	want := compile(t, d.kit, be, engine.Options{Compute: engine.BFloat16, NoReuse: true}, d.outputs()...).run(t)
	for _, r := range []engine.Recompute{engine.RecomputeNone, engine.RecomputeCheap, engine.RecomputeLayer} {
		p := compile(t, d.kit, be, engine.Options{Compute: engine.BFloat16, Recompute: r}, d.outputs()...)
		if diff := firstDifference(p.run(t), want); diff != "" {
			t.Errorf("recompute %d: %s", r, diff)
		}
		for _, c := range p.plan.Calls() {
			if c.Kernel == "rms_norm" && c.Out[1] != nil && (c.Out[1].DType != engine.Float32 || c.In[0].DType != engine.BFloat16) {
				t.Errorf("rms_norm reads %v and keeps %v", c.In[0], c.Out[1])
			}
		}
	}
}

// TestRecomputeSavesMemory: the further a mode goes, the more it runs again and the
// less it keeps.
func TestRecomputeSavesMemory(t *testing.T) {
	t.Parallel()
	d := trainingStack(t, 12)
	be := newRefBackend(d.Graph())
	calls, arena := 0, int64(1<<60)
	for _, r := range []engine.Recompute{engine.RecomputeNone, engine.RecomputeCheap, engine.RecomputeLayer} {
		p := compile(t, d.kit, be, engine.Options{Recompute: r}, d.outputs()...)
		u := p.plan.Usage()
		if u.Arena < u.PeakLive || u.Arena > u.Sum {
			t.Errorf("recompute %d: %+v", r, u)
		}
		if n := len(p.plan.Calls()); n <= calls || u.Arena >= arena {
			t.Errorf("recompute %d: %d calls in %d bytes, before it %d calls in %d", r, n, u.Arena, calls, arena)
		} else {
			calls, arena = n, u.Arena
		}
	}
}

// TestOnReady: gradients are complete when they are said to be, in the order of
// the instructions, once a run.
func TestOnReady(t *testing.T) {
	t.Parallel()
	d := trainingStack(t, 3)
	be := newRefBackend(d.Graph())
	p := compile(t, d.kit, be, engine.Options{Recompute: engine.RecomputeLayer}, d.grads...)
	early := make([][]float64, len(p.outs))
	var order []int
	for i, id := range p.outs {
		p.plan.OnReady(id, func() {
			order = append(order, i)
			early[i] = make([]float64, p.plan.Tensor(id).Size())
			load(early[i], p.plan.Tensor(id))
		})
	}
	for range 2 {
		order = nil
		if diff := firstDifference(early, p.run(t)); diff != "" {
			t.Errorf("a gradient changed after it was ready: %s", diff)
		}
		if len(order) != len(p.outs) {
			t.Errorf("%d gradients became ready, want %d", len(order), len(p.outs))
		}
		if !slices.IsSortedFunc(order, func(a, b int) int { return made(p, a) - made(p, b) }) {
			t.Errorf("gradients became ready in the order %v, not in that of the instructions", order)
		}
	}
}

// made is the instruction that completes output i.
func made(p *planned, i int) int {
	return slices.IndexFunc(p.plan.Calls(), func(c *engine.Call) bool { return slices.Contains(c.Out, p.plan.Tensor(p.outs[i])) })
}

// exchange stands for an operator in which ranks exchange data.
func (k *kit) exchange(x *G.Node) *G.Node {
	return k.apply(def{kernel: "test_exchange", outs: []engine.Out{act(x.Shape()...)}, exchange: true,
		ref: func(in, out [][]float64) { copy(out[0], in[0]) }}, x)[0]
}

// TestSegments: a plan is cut around exchanges, and running the pieces one after
// the other is running it.
func TestSegments(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	x := k.exchange(k.fixed("x", 2, 4)) // an exchange first,
	for i := range 3 {
		x = k.AddBias(k.Add(x, x), k.fixed(fmt.Sprintf("b%d", i), 4))
		if i == 1 {
			x = k.exchange(k.exchange(x)) // two in a row,
		}
	}
	x = k.exchange(x) // and one last
	p := compile(t, k, newRefBackend(k.Graph()), engine.Options{}, x)
	want := p.run(t)
	var kinds strings.Builder
	at := 0
	for _, s := range p.plan.Segments() {
		if s.From != at || s.To <= s.From {
			t.Errorf("segment %+v after instruction %d", s, at)
		}
		at = s.To
		if s.Exchange {
			kinds.WriteByte('x')
			if s.To != s.From+1 || p.plan.Calls()[s.From].Kernel != "test_exchange" {
				t.Errorf("segment %+v is not one exchange", s)
			}
		} else {
			kinds.WriteByte('.')
		}
	}
	if at != len(p.plan.Calls()) || kinds.String() != "x.xx.x" {
		t.Errorf("segments %s end at %d of %d instructions", kinds.String(), at, len(p.plan.Calls()))
	}
	fillNaN(bytesOf(p.plan.Tensor(p.outs[0])))
	for _, s := range p.plan.Segments() {
		if err := p.plan.RunRange(s.From, s.To); err != nil {
			t.Fatal(err)
		}
	}
	if diff := firstDifference(p.read(t), want); diff != "" {
		t.Errorf("in segments: %s", diff)
	}
}

// TestRunAllocatesNothing. The operators are those whose references allocate
// nothing themselves.
func TestRunAllocatesNothing(t *testing.T) {
	k := newKit(1)
	x := k.fixed("x", 4, 8)
	for i := range 8 {
		x = k.Add(k.MatMul(x, k.fixed(fmt.Sprintf("w%d", i), 8, 8), false, true), x)
	}
	p := compile(t, k, newRefBackend(k.Graph()), engine.Options{}, x)
	ready := 0
	p.plan.OnReady(p.outs[0], func() { ready++ })
	p.run(t)
	if n := testing.AllocsPerRun(10, func() {
		if err := p.plan.Run(); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("a run allocates %g times", n)
	}
	if ready < 10 {
		t.Errorf("%d outputs became ready", ready)
	}
}
