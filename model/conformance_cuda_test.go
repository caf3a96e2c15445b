package model_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// TestCUDAConformance runs every operator and its gradient on the GPU against the
// float64 reference, twice: the bits have to be the same.
func TestCUDAConformance(t *testing.T) {
	be := gpu(t)
	for _, c := range conformanceCases() {
		for _, compute := range []engine.DType{engine.Float32, engine.BFloat16} {
			t.Run(fmt.Sprintf("%s/%v", c.name, compute), func(t *testing.T) { c.conform(t, be, compute) })
		}
	}
	t.Logf("%s\n%v", be.Path(), be.Algorithms())
}

// TestCUDAPlans needs no GPU: each operator has a CUDA kernel, whose launches fit
// the signatures of the kernels in the source.
func TestCUDAPlans(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range conformanceCases() {
		for _, compute := range []engine.DType{engine.Float32, engine.BFloat16} {
			g := c.graph(t)
			plan, err := g.plan(t, cuda.NewDry(), compute)
			if err != nil {
				t.Fatalf("%s: %v", c.name, err)
			}
			for _, call := range plan.Calls() {
				seen[call.Kernel] = true
			}
			plan.Close()
		}
	}
	for _, name := range cuda.Kernels() {
		if !seen[name] {
			t.Errorf("no case runs the CUDA kernel %s", name)
		}
	}
}

// conformance is a graph of operators and how far results may be off.
type conformance struct {
	name  string
	build func(b *builder) []*G.Node
	loose float64 // multiplies the tolerance, for results that are differences of near equals
}

// builder makes inputs with values.
type builder struct {
	*op.Builder
	rng    *rand.Rand
	values map[*G.Node][]float64
	inputs []*G.Node
	always map[*G.Node]bool // stored in fp32 whatever the plan computes in
	wrt    []*G.Node
	n      int
}

// normal is an input that has a gradient.
func (b *builder) normal(scale float64, shape ...int) *G.Node {
	x := b.constant(scale, shape...)
	b.wrt = append(b.wrt, x)
	return x
}

// constant is an input without a gradient.
func (b *builder) constant(scale float64, shape ...int) *G.Node {
	v := make([]float64, engine.Size(shape))
	for i := range v {
		v[i] = scale * b.rng.NormFloat64()
	}
	return b.with(v, shape...)
}

func (b *builder) with(v []float64, shape ...int) *G.Node {
	b.n++
	x := b.Input(fmt.Sprintf("x%d", b.n), shape...)
	b.values[x] = v
	b.inputs = append(b.inputs, x)
	return x
}

func (b *builder) fp32(x *G.Node) *G.Node { b.always[x] = true; return x }

func (b *builder) ints(v []float64, shape ...int) *G.Node {
	b.n++
	x := b.Ints(fmt.Sprintf("i%d", b.n), shape...)
	b.values[x] = v
	b.inputs = append(b.inputs, x)
	return x
}

// below draws integers.
func (b *builder) below(n int, shape ...int) *G.Node {
	v := make([]float64, engine.Size(shape))
	for i := range v {
		v[i] = float64(b.rng.IntN(n))
	}
	return b.ints(v, shape...)
}

// docs cuts rows into documents of about `mean` positions; some end in padding.
func (b *builder) docs(batch, length, mean int) *G.Node {
	v := make([]float64, batch*length)
	for row := range batch {
		doc := 0.0
		for t := range length {
			if t > 0 && b.rng.IntN(mean) == 0 {
				doc++
			}
			v[row*length+t] = doc
		}
		if row%2 == 1 {
			for t := length - length/5; t < length; t++ {
				v[row*length+t] = -1
			}
		}
	}
	return b.ints(v, batch, length)
}

// graph is a case lowered to a program.
type caseGraph struct {
	*builder
	outputs []*G.Node
	program *engine.Program
}

// graph builds the operators and the gradient of all inputs that have one, from
// random gradients of all outputs that are not integers.
func (c conformance) graph(t *testing.T) caseGraph {
	t.Helper()
	b := &builder{Builder: op.NewBuilder(), rng: rand.New(rand.NewPCG(7, uint64(len(c.name)))), values: map[*G.Node][]float64{}, always: map[*G.Node]bool{}}
	outputs := c.build(b)
	if len(b.wrt) > 0 {
		var seeds []*G.Node
		for _, o := range outputs {
			seed := b.constant(1, o.Shape()...)
			b.always[seed] = o.Op().(engine.Lowerable).Lower().Outs[0].Class == engine.F32
			seeds = append(seeds, seed)
		}
		grads, err := b.Gradients(outputs, seeds, b.wrt)
		if err != nil {
			t.Fatal(err)
		}
		outputs = append(slices.Clone(outputs), grads...)
	}
	program, err := engine.Lower(b.Graph(), outputs...)
	if err != nil {
		t.Fatal(err)
	}
	return caseGraph{b, outputs, program}
}

// plan places what is always fp32 by hand, as the trainer does.
func (g caseGraph) plan(t *testing.T, be *cuda.Backend, compute engine.DType) (*engine.Plan, error) {
	t.Helper()
	bind := map[engine.ValueID]*engine.Tensor{}
	for _, x := range g.inputs {
		id, ok := g.program.Value(x)
		if !ok || !g.always[x] {
			continue
		}
		mem, err := be.Alloc(int64(4 * x.Shape().TotalSize()))
		if err != nil {
			return nil, err
		}
		t.Cleanup(func() { be.Free(mem) })
		bind[id] = &engine.Tensor{Shape: x.Shape().Clone(), DType: engine.Float32, Mem: mem}
	}
	return engine.NewPlan(g.program, be, engine.Options{Compute: compute, Bind: bind})
}

// conform runs a case on a backend.
func (c conformance) conform(t *testing.T, be *cuda.Backend, compute engine.DType) {
	g := c.graph(t)
	plan, err := g.plan(t, be, compute)
	if err != nil {
		t.Fatal(err)
	}
	defer plan.Close()
	got := g.run(t, be, plan)
	if again := g.run(t, be, plan); !slices.EqualFunc(got, again, sameBits) {
		t.Error("a second run gives other bits")
	}
	want, err := op.Evaluate(g.Graph(), g.values, g.outputs...)
	if err != nil {
		t.Fatal(err)
	}
	tolerance := 3e-6 * c.loose
	if compute == engine.BFloat16 {
		tolerance = 1.5e-2 * c.loose
	}
	for i := range want {
		if d := distance(got[i], want[i]); !(d <= tolerance) {
			t.Errorf("output %d %v: off by %.2g of its norm, want %.2g: got %.5g want %.5g", i, g.outputs[i].Shape(), d, tolerance,
				got[i][:min(6, len(got[i]))], want[i][:min(6, len(want[i]))])
		}
	}
}

// run writes the inputs, as the device stores them, runs, and reads the outputs.
func (g caseGraph) run(t *testing.T, be *cuda.Backend, plan *engine.Plan) [][]float32 {
	t.Helper()
	for _, x := range g.inputs {
		id, ok := g.program.Value(x)
		if !ok {
			continue
		}
		to := plan.Tensor(id)
		if err := be.Write(to, stored(to.DType, g.values[x])); err != nil {
			t.Fatal(err)
		}
	}
	if err := plan.Run(); err != nil {
		t.Fatal(err)
	}
	var all [][]float32
	for _, o := range g.outputs {
		id, _ := g.program.Value(o)
		x, err := read(be, plan.Tensor(id))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, x)
	}
	return all
}

// stored is a value as a tensor of the type takes it; what rounding changes is
// changed in the value too.
func stored(d engine.DType, v []float64) any {
	switch d {
	case engine.Int32:
		x := make([]int32, len(v))
		for i := range v {
			x[i] = int32(v[i])
		}
		return x
	case engine.BFloat16:
		x := make([]uint16, len(v))
		for i := range v {
			bits := math.Float32bits(float32(v[i]))
			x[i] = uint16((bits + 0x7fff + bits>>16&1) >> 16)
			v[i] = float64(math.Float32frombits(uint32(x[i]) << 16))
		}
		return x
	}
	x := make([]float32, len(v))
	for i := range v {
		x[i] = float32(v[i])
		v[i] = float64(x[i])
	}
	return x
}

func read(be *cuda.Backend, t *engine.Tensor) ([]float32, error) {
	x := make([]float32, t.Size())
	switch t.DType {
	case engine.Int32:
		raw := make([]int32, t.Size())
		err := be.Read(raw, t)
		for i, v := range raw {
			x[i] = float32(v)
		}
		return x, err
	case engine.BFloat16:
		raw := make([]uint16, t.Size())
		err := be.Read(raw, t)
		for i, v := range raw {
			x[i] = math.Float32frombits(uint32(v) << 16)
		}
		return x, err
	}
	return x, be.Read(x, t)
}

func sameBits(a, b []float32) bool {
	return slices.EqualFunc(a, b, func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) })
}

// distance is ||got - want|| / ||want||.
func distance(got []float32, want []float64) float64 {
	var diff, norm float64
	for i, w := range want {
		diff += (float64(got[i]) - w) * (float64(got[i]) - w)
		norm += w * w
	}
	if norm == 0 {
		return math.Sqrt(diff)
	}
	return math.Sqrt(diff / norm)
}
