package op

import (
	"errors"
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

// virtualBackend has memory that is not there, and kernels that do nothing.
type virtualBackend struct{ refBackend }

type virtualMemory struct{ bytes int64 }

func (m *virtualMemory) Bytes() int64 { return m.bytes }

func (virtualBackend) Alloc(bytes int64) (engine.Memory, error) {
	if bytes > 1<<40 {
		return nil, errors.New("no memory")
	}
	return &virtualMemory{bytes}, nil
}

func (virtualBackend) Free(engine.Memory) {}

type virtualKernel struct{}

func (virtualBackend) Kernel(string) (engine.Kernel, bool) { return virtualKernel{}, true }

func (virtualKernel) Scratch(*engine.Call) int { return 0 }

func (virtualKernel) Bind(*engine.Call) (func() error, error) {
	return func() error { return nil }, nil
}

// TestLargeTensors: sizes and offsets beyond 32 bits.
func TestLargeTensors(t *testing.T) {
	t.Parallel()
	const rows, width = 1 << 16, 3 << 14 // 12 GiB each
	k := newKit(1)
	in := func(name string) *G.Node { return k.Input(name, rows, width) }
	a := k.Add(in("a"), in("b"))
	c := k.Add(in("c"), in("d"))
	tail := k.Slice(a, (rows-1)*width, 1, width)
	outs := nodes{k.MatMul(a, c, false, true), tail, c}
	p := compile(t, k, &virtualBackend{}, engine.Options{}, outs...)
	u := p.plan.Usage()
	const each = 4 * rows * width
	if want := int64(2*each + 4*rows*rows); u.Arena != want || u.Inputs != 4*each {
		t.Errorf("%+v, want an arena of %d and inputs of %d bytes", u, want, int64(4*each))
	}
	var last int64
	for _, n := range []*G.Node{a, c, outs[0]} {
		id, _ := p.prog.Value(n)
		x := p.plan.Tensor(id)
		if x.Off < 0 || x.Off+x.Bytes() > u.Arena {
			t.Errorf("%v lies at %d of %d", x, x.Off, u.Arena)
		}
		last = max(last, x.Off)
	}
	if last < 1<<32 {
		t.Errorf("the last value starts at %d: the test wants more than 4 GiB", last)
	}
	ida, _ := p.prog.Value(a)
	idt, _ := p.prog.Value(tail)
	if got, want := p.plan.Tensor(idt).Off-p.plan.Tensor(ida).Off, int64(4*(rows-1)*width); got != want {
		t.Errorf("the slice lies %d bytes into its value, want %d", got, want)
	}
}

// TestPlanErrors: what cannot be planned says so, and frees what it took.
func TestPlanErrors(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	x, sum := k.fixed("x", 4, 4), k.fixed("sum", 4, 4)
	total := k.Accumulate(sum, x)
	whole := k.fixed("whole", 32)
	part := k.Accumulate(k.Slice(whole, 16, 16), k.fixed("y", 16))
	be := newRefBackend(k.Graph())
	prog, err := engine.Lower(k.Graph(), total, part)
	if err != nil {
		t.Fatal(err)
	}
	id := func(n *G.Node) engine.ValueID { v, _ := prog.Value(n); return v }
	m, err := be.Alloc(1024)
	if err != nil {
		t.Fatal(err)
	}
	at := func(off int64, n int) *engine.Tensor { return &engine.Tensor{Shape: []int{n}, Mem: m, Off: off} }
	before := be.allocated
	for _, c := range []struct {
		name, want string
		be         engine.Backend
		bind       map[engine.ValueID]*engine.Tensor
	}{
		{"no kernel", `no kernel "add"`, &refBackend{}, nil},
		{"wrong size", "x is bound to float32[15], want shape [4 4]", be, map[engine.ValueID]*engine.Tensor{id(x): at(0, 15)}},
		{"outside", "x lies outside its memory", be, map[engine.ValueID]*engine.Tensor{id(x): at(1000, 16)}},
		{"two places", "updates sum, which is bound to other memory", be, map[engine.ValueID]*engine.Tensor{id(sum): at(0, 16), id(total): at(64, 16)}},
		{"update of a slice", "updates slice, which is bound to other memory", be, map[engine.ValueID]*engine.Tensor{id(part): at(0, 16)}},
	} {
		_, err := engine.NewPlan(prog, c.be, engine.Options{Bind: c.bind})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
	if be.allocated != before {
		t.Errorf("failed plans hold %d bytes", be.allocated-before)
	}
	p, err := engine.NewPlan(prog, be, engine.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p.Close()
	p.Close()
	if be.allocated != before {
		t.Errorf("a closed plan holds %d bytes", be.allocated-before)
	}
}

// TestLowerErrors: nodes of gorgonia's own, packed outputs.
func TestLowerErrors(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	x := k.fixed("x", 4, 4)
	if _, err := engine.Lower(k.Graph(), G.Must(G.Tanh(x))); err == nil || !strings.Contains(err.Error(), "not Lowerable") {
		t.Errorf("tanh of gorgonia: %v", err)
	}
	y, _ := k.AddRMSNorm(x, x, k.fixed("w", 4), 1e-5)
	if _, err := engine.Lower(k.Graph(), childrenOf(k.Graph(), y)[0]); err == nil || !strings.Contains(err.Error(), "several outputs") {
		t.Errorf("a packed operator as output: %v", err)
	}
}

// TestRunningSumsAreTakenEarly: gradients that are accumulated over micro-batches
// go into their sums as the backward pass makes them, so that accumulation costs
// no memory in the arena, and the last layer's sums are ready first.
func TestRunningSumsAreTakenEarly(t *testing.T) {
	t.Parallel()
	const layers, rows, width = 8, 4, 32
	build := func(accumulate bool) (k *kit, results nodes) {
		k = newKit(1)
		x := k.fixed("x", rows, width)
		for i := range layers {
			end := k.Layer(i)
			x = k.AddBias(k.MatMul(k.RMSNorm(x, k.float(fmt.Sprintf("norm%d", i), width), 1e-5),
				k.float(fmt.Sprintf("w%d", i), width, width), false, true), k.float(fmt.Sprintf("b%d", i), width))
			end()
		}
		grads, err := k.Gradients(nodes{x}, nodes{k.fixed("seed", rows, width)}, k.wrt)
		if err != nil {
			t.Fatal(err)
		}
		for i, g := range grads {
			if accumulate {
				g = k.Accumulate(k.fixed("sum."+k.wrt[i].Name(), g.Shape()...), g)
			}
			results = append(results, g)
		}
		return k, results
	}
	bindAll := func(k *kit, be engine.Backend, prog *engine.Program, results nodes) map[engine.ValueID]*engine.Tensor {
		bind := map[engine.ValueID]*engine.Tensor{}
		for i, r := range results {
			m, err := be.Alloc(int64(4 * r.Shape().TotalSize()))
			if err != nil {
				t.Fatal(err)
			}
			tensor := &engine.Tensor{Shape: r.Shape(), Mem: m}
			id, _ := prog.Value(r)
			bind[id] = tensor
			if sum := k.Lookup("sum." + k.wrt[i].Name()); sum != nil {
				id, _ = prog.Value(sum)
				bind[id] = tensor
			}
		}
		return bind
	}
	arena := map[bool]int64{}
	for _, accumulate := range []bool{false, true} {
		k, results := build(accumulate)
		be := newRefBackend(k.Graph())
		prog, err := engine.Lower(k.Graph(), results...)
		if err != nil {
			t.Fatal(err)
		}
		p := compile(t, k, be, engine.Options{Bind: bindAll(k, be, prog, results)}, results...)
		arena[accumulate] = p.plan.Usage().Arena
		if first, last := made(p, len(results)-1), made(p, 0); first >= last-layers {
			t.Errorf("accumulate %t: the gradients of the last layer come at %d, those of the first at %d", accumulate, first, last)
		}
		want, err := Evaluate(k.Graph(), k.values, results...)
		if err != nil {
			t.Fatal(err)
		}
		for i, v := range p.run(t) {
			if e := relativeError(v, want[i]); e > 1e-6 {
				t.Errorf("accumulate %t: gradient of %s is off by %.1e", accumulate, k.wrt[i].Name(), e)
			}
		}
	}
	if arena[true] > arena[false]+1024 {
		t.Errorf("accumulation takes an arena of %d bytes, without it %d", arena[true], arena[false])
	}
}

// TestSumsKeepTheirPrecision: the gradients that gorgonia adds up for a value in
// fp32, here the router's weights, stay in fp32 where activations are bf16.
func TestSumsKeepTheirPrecision(t *testing.T) {
	t.Parallel()
	k := newKit(1)
	d := &differentiated{kit: k}
	_, weights, index := k.RouterTopK(k.float("logits", 3, 4), 2, false)
	r := k.ExpertSort(index, 4)
	ys := k.float("ys", 6, 5)
	d.outs = nodes{k.Combine(ys, weights, r), k.Combine(ys, weights, r)}
	d.addGradients(t)
	p := compile(t, k, newRefBackend(k.Graph()), engine.Options{Compute: engine.BFloat16}, d.outputs()...)
	sums := map[engine.DType]int{}
	for _, c := range p.plan.Calls() {
		if c.Kernel == "add" {
			sums[c.Out[0].DType]++
			if c.In[0].DType != c.Out[0].DType {
				t.Errorf("a sum of %v is stored as %v", c.In[0], c.Out[0])
			}
		}
	}
	if sums[engine.Float32] != 1 || sums[engine.BFloat16] != 1 {
		t.Errorf("sums by type: %v, want one of the weights' gradients and one of ys'", sums)
	}
}
