package model_test

import (
	"errors"
	"fmt"
	"math"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/engine"
	"jambalaya/internal/prng"
	"jambalaya/model"
)

// gpu is a backend, or the test is skipped with the reason.
func gpu(t testing.TB) *cuda.Backend {
	t.Helper()
	be, err := cuda.New(0)
	if errors.Is(err, cuda.ErrUnavailable) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(be.Close)
	return be
}

// trained is a training graph with its weights on a backend.
type trained struct {
	t       testing.TB
	be      engine.Backend
	graph   *model.TrainingGraph
	weights *model.Weights
	plan    *engine.Plan
}

func newTrained(t testing.TB, be engine.Backend, cfg model.Config, batch, length int, opt engine.Options) *trained {
	t.Helper()
	r := &trained{t: t, be: be}
	var err error
	if r.graph, err = model.NewTrainingGraph(cfg, batch, length, model.GraphOptions{}); err != nil {
		t.Fatal(err)
	}
	if r.weights, err = model.NewWeights(be, cfg, true); err != nil {
		t.Fatal(err)
	}
	if err := r.weights.Init(7); err != nil {
		t.Fatal(err)
	}
	opt.Bind = r.weights.Bind(r.graph.Params, r.graph.Grads, r.graph.Sums)
	for _, seed := range []engine.ValueID{r.graph.SeedLoss, r.graph.SeedAux} { // scalars are fp32
		if seed < 0 {
			continue
		}
		mem, err := be.Alloc(4)
		if err != nil {
			t.Fatal(err)
		}
		opt.Bind[seed] = &engine.Tensor{Shape: []int{1}, DType: engine.Float32, Mem: mem}
	}
	if r.plan, err = engine.NewPlan(r.graph.Program, be, opt); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.plan.Close)
	rng := prng.New(3, "tokens")
	tokens, targets, docs := make([]int32, batch*length), make([]int32, batch*length), make([]int32, batch*length)
	for i := range tokens {
		tokens[i], targets[i] = int32(rng.IntN(cfg.VocabSize)), int32(rng.IntN(cfg.VocabSize))
		if at := i % length; at > 0 {
			docs[i] = docs[i-1] + int32(1-min(1, at%(length/2)))
		}
	}
	scale := float32(1) / float32(batch*length)
	for v, x := range map[engine.ValueID]any{r.graph.Tokens: tokens, r.graph.Targets: targets, r.graph.Docs: docs,
		r.graph.SeedLoss: []float32{scale}, r.graph.SeedAux: []float32{scale}} {
		if v < 0 {
			continue
		}
		if err := be.Write(r.plan.Tensor(v), x); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// step returns the loss and the flat gradient.
func (r *trained) step() (float64, []float64) {
	r.t.Helper()
	if err := r.plan.Run(); err != nil {
		r.t.Fatal(err)
	}
	loss, grads := make([]float32, 1), make([]float32, r.weights.Grad.Size())
	if err := r.be.Read(loss, r.plan.Tensor(r.graph.Loss)); err != nil {
		r.t.Fatal(err)
	}
	if err := r.be.Read(grads, r.weights.Grad); err != nil {
		r.t.Fatal(err)
	}
	wide := make([]float64, len(grads))
	for i, g := range grads {
		wide[i] = float64(g)
	}
	return float64(loss[0]), wide
}

// TestCUDATraining compares a step of a small Jamba on the GPU, in fp32 and bf16,
// with the same on the processor.
func TestCUDATraining(t *testing.T) {
	be := gpu(t)
	cfg := model.Default()
	cfg.LayerPattern, cfg.NumHiddenLayers, cfg.InitializerRange = "mMaA", 4, 0.1
	host := cpu.New(0)
	defer host.Close()
	for _, rope := range []float64{0, 10000} {
		cfg.RopeTheta = rope
		loss, grads := newTrained(t, host, cfg, 2, 150, engine.Options{}).step()
		for compute, tolerance := range map[engine.DType]float64{engine.Float32: 2e-5, engine.BFloat16: 0.1} {
			t.Run(fmt.Sprintf("rope %g/%v", rope, compute), func(t *testing.T) {
				for _, recompute := range []engine.Recompute{engine.RecomputeNone, engine.RecomputeLayer} {
					got, g := newTrained(t, be, cfg, 2, 150, engine.Options{Compute: compute, Recompute: recompute}).step()
					narrow := make([]float32, len(g))
					for i := range g {
						narrow[i] = float32(g[i])
					}
					far := distance(narrow, grads)
					t.Logf("loss %.6f, on the processor %.6f; gradients differ by %.2g of their norm", got, loss, far)
					if !(math.Abs(got-loss) <= tolerance/10*math.Abs(loss)) || !(far <= tolerance) {
						t.Errorf("loss %g want %g, gradients off by %g", got, loss, far)
					}
				}
			})
		}
	}
}
