package model

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/engine"
	"jambalaya/internal/prng"
)

// tiny is a Jamba with every kind of layer, small enough for float64 oracles.
func tiny() Config {
	c := Default()
	c.VocabSize, c.HiddenSize, c.IntermediateSize = 37, 32, 24
	c.LayerPattern = "mMaA"
	c.NumHiddenLayers = 4
	c.NumExperts, c.NumExpertsPerTok = 4, 2
	c.RouterAuxLossCoef = 0.05
	c.InitializerRange = 0.2
	return c
}

// run is a training graph with weights on a CPU backend.
type run struct {
	t       *testing.T
	be      *cpu.Backend
	graph   *TrainingGraph
	weights *Weights
	plan    *engine.Plan
}

func newRun(t *testing.T, cfg Config, batch, length, threads int, gopt GraphOptions, opt engine.Options) *run {
	t.Helper()
	be := cpu.New(threads)
	t.Cleanup(be.Close)
	g, err := NewTrainingGraph(cfg, batch, length, gopt)
	if err != nil {
		t.Fatal(err)
	}
	w, err := NewWeights(be, cfg, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Init(7); err != nil {
		t.Fatal(err)
	}
	opt.Bind = w.Bind(g.Params, g.Grads, g.Sums)
	plan, err := engine.NewPlan(g.Program, be, opt)
	if err != nil {
		t.Fatal(err)
	}
	return &run{t: t, be: be, graph: g, weights: w, plan: plan}
}

func (r *run) write(v engine.ValueID, x any) {
	r.t.Helper()
	if v < 0 {
		return
	}
	if err := r.be.Write(r.plan.Tensor(v), x); err != nil {
		r.t.Fatal(err)
	}
}

func (r *run) read(tensor *engine.Tensor) []float32 {
	r.t.Helper()
	x := make([]float32, tensor.Size())
	if err := r.be.Read(x, tensor); err != nil {
		r.t.Fatal(err)
	}
	return x
}

// step runs one micro-batch; seeds are 1 for the loss and coefficient for aux.
func (r *run) step(tokens, targets, docs []int32) {
	r.t.Helper()
	g := r.graph
	r.write(g.Tokens, tokens)
	r.write(g.Targets, targets)
	r.write(g.Docs, docs)
	r.write(g.SeedLoss, []float32{1})
	r.write(g.SeedAux, []float32{float32(g.Config.RouterAuxLossCoef)})
	if err := r.plan.Run(); err != nil {
		r.t.Fatal(err)
	}
}

// grads returns the flat gradient.
func (r *run) grads() []float32 { return r.read(r.weights.Grad) }

// sample draws tokens and their targets; docs cuts rows at the given lengths.
func sample(seed uint64, vocab, batch int, lengths ...int) (tokens, targets, docs []int32) {
	rng := prng.New(seed, "tokens")
	for b := 0; b < batch; b++ {
		for d, n := range lengths {
			for i := 0; i < n; i++ {
				tokens = append(tokens, int32(rng.IntN(vocab)))
				targets = append(targets, int32(rng.IntN(vocab)))
				docs = append(docs, int32(d))
			}
			targets[len(targets)-1] = -100
		}
	}
	return tokens, targets, docs
}

// TestPlansAgree: reuse of memory, recomputation and the number of threads change
// no bit.
func TestPlansAgree(t *testing.T) {
	t.Parallel()
	tokens, targets, docs := sample(1, 37, 2, 20, 29)
	var want []float32
	for _, c := range []struct {
		name    string
		threads int
		opt     engine.Options
	}{
		{"no reuse", 1, engine.Options{NoReuse: true}},
		{"planned", 1, engine.Options{}},
		{"2 threads", 2, engine.Options{}},
		{"4 threads", 4, engine.Options{}},
		{"recompute cheap", 2, engine.Options{Recompute: engine.RecomputeCheap}},
		{"recompute layer", 2, engine.Options{Recompute: engine.RecomputeLayer}},
	} {
		r := newRun(t, tiny(), 2, 49, c.threads, GraphOptions{}, c.opt)
		for range 2 { // a second step finds the arena used
			r.step(tokens, targets, docs)
		}
		got := append(r.grads(), r.read(r.plan.Tensor(r.graph.Loss))...)
		u := r.plan.Usage()
		t.Logf("%-16s arena %7d, live %7d, without reuse %7d bytes", c.name, u.Arena, u.PeakLive, u.Sum)
		if want == nil {
			want = got
		} else if i := firstDifference(got, want); i >= 0 {
			t.Errorf("%s: element %d is %g, want %g", c.name, i, got[i], want[i])
		}
		if !c.opt.NoReuse && u.Arena > u.Sum*3/4 {
			t.Errorf("%s: the arena saves too little", c.name)
		}
	}
}

// firstDifference compares bits; -1 if there is none.
func firstDifference(a, b []float32) int {
	for i := range a {
		if math.Float32bits(a[i]) != math.Float32bits(b[i]) {
			return i
		}
	}
	return -1
}

// TestPackedDocuments: a row that packs documents gives each the logits it has
// alone, and the gradients are the sum of those alone.
func TestPackedDocuments(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{"m", "a", "mMaA"} {
		cfg := tiny()
		cfg.LayerPattern, cfg.RouterAuxLossCoef, cfg.NumHiddenLayers = pattern, 0, len(pattern)
		for _, rope := range []float64{0, 10000} {
			cfg.RopeTheta = rope
			t.Run(fmt.Sprintf("%s rope %g", pattern, rope), func(t *testing.T) { packedDocuments(t, cfg) })
		}
	}
}

func packedDocuments(t *testing.T, cfg Config) {
	lengths := []int{5, 1, 40, 17}
	tokens, targets, docs := sample(3, cfg.VocabSize, 1, lengths...)
	packed := newRun(t, cfg, 1, len(tokens), 2, GraphOptions{Inspect: true}, engine.Options{})
	packed.step(tokens, targets, docs)
	logits := packed.read(packed.plan.Tensor(packed.graph.Logits))
	sum := make([]float64, packed.weights.Grad.Size())
	at := 0
	for _, n := range lengths {
		alone := newRun(t, cfg, 1, n, 2, GraphOptions{Inspect: true}, engine.Options{})
		alone.step(tokens[at:at+n], targets[at:at+n], make([]int32, n))
		got := alone.read(alone.plan.Tensor(alone.graph.Logits))
		if d := worst(got, logits[at*cfg.VocabSize:(at+n)*cfg.VocabSize]); d > 2e-5 {
			t.Errorf("logits of the document at %d differ by %g", at, d)
		}
		for i, g := range alone.grads() {
			sum[i] += float64(g)
		}
		at += n
	}
	grads := packed.grads()
	for i, p := range packed.weights.Params {
		from := packed.weights.offsets[i]
		part, want := grads[from:from+p.Size()], make([]float32, p.Size())
		for j := range want {
			want[j] = float32(sum[from+j])
		}
		if d := worst(part, want); d > 2e-4*largest(want) {
			t.Errorf("gradient of %s differs by %g of %g", p.Name, d, largest(want))
		}
	}
}

func worst(a, b []float32) float64 {
	d := 0.0
	for i := range a {
		d = max(d, math.Abs(float64(a[i]-b[i])))
	}
	return d
}

func largest(a []float32) float64 { return worst(a, make([]float32, len(a))) }

// TestAccumulation: with the load-balancing loss taken by sequence, micro-batches
// of 2 add up to the gradient of one of 8.
func TestAccumulation(t *testing.T) {
	t.Parallel()
	const length = 24
	tokens, targets, docs := sample(5, 37, 8, length)
	whole := newRun(t, tiny(), 8, length, 2, GraphOptions{}, engine.Options{})
	whole.step(tokens, targets, docs)
	parts := newRun(t, tiny(), 2, length, 2, GraphOptions{Accumulate: true}, engine.Options{})
	for i := 0; i < 4; i++ {
		from, to := i*2*length, (i+1)*2*length
		parts.step(tokens[from:to], targets[from:to], docs[from:to])
	}
	got, want := parts.grads(), whole.grads()
	for i, p := range whole.weights.Params {
		from, to := whole.weights.offsets[i], whole.weights.offsets[i]+p.Size()
		if d := worst(got[from:to], want[from:to]); d > 1e-4*largest(want[from:to]) {
			t.Errorf("%s: differs by %g of %g", p.Name, d, largest(want[from:to]))
		}
	}
}

// TestStepAllocatesNothing: a planned step in steady state makes no garbage.
func TestStepAllocatesNothing(t *testing.T) {
	tokens, targets, docs := sample(1, 37, 2, 49)
	r := newRun(t, tiny(), 2, 49, 2, GraphOptions{}, engine.Options{})
	r.step(tokens, targets, docs)
	allocs := testing.AllocsPerRun(10, func() {
		if err := r.plan.Run(); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 0 {
		t.Errorf("%g allocations a step", allocs)
	}
}

// TestGeneratorMatchesForward: reading token by token through the caches gives
// the logits of the forward pass over the whole sequence.
func TestGeneratorMatchesForward(t *testing.T) {
	t.Parallel()
	for _, rope := range []float64{0, 10000} {
		cfg := tiny()
		cfg.RopeTheta = rope
		const length = 2*prefillChunk + 5
		tokens, targets, docs := sample(9, cfg.VocabSize, 1, length)
		r := newRun(t, cfg, 1, length, 2, GraphOptions{Inspect: true}, engine.Options{})
		r.step(tokens, targets, docs)
		want := r.read(r.plan.Tensor(r.graph.Logits))
		gen, err := NewGenerator(r.be, r.weights, length)
		if err != nil {
			t.Fatal(err)
		}
		defer gen.Close()
		for range 2 { // the second time after a Reset
			for _, cut := range []int{1, prefillChunk, prefillChunk + 3, length} {
				if cut <= gen.Pos() {
					continue
				}
				got, err := gen.Read(slices.Clone(tokens[gen.Pos():cut]))
				if err != nil {
					t.Fatal(err)
				}
				if d := worst(got, want[(cut-1)*cfg.VocabSize:cut*cfg.VocabSize]); d > 2e-5 {
					t.Errorf("rope %g: logits after %d tokens differ by %g", rope, cut, d)
				}
			}
			if err := gen.Reset(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := gen.Read(make([]int32, length+1)); err == nil {
			t.Error("more tokens than the capacity were read")
		}
	}
}
