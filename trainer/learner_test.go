package trainer

import (
	"context"
	"math"
	"slices"
	"testing"

	"jambalaya/data"
	"jambalaya/internal/backend/cpu"
	"jambalaya/model"
	"jambalaya/trainer/optim"
)

// newTestLearner prepares the tiny run up to its first step.
func newTestLearner(t *testing.T, cfg Config, threads int) (*learner, func(*data.Batch) error) {
	t.Helper()
	corpus, err := data.Open(context.Background(), cfg.Data, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { corpus.Close() })
	index, err := corpus.Index(cfg.Trainer.Seed)
	if err != nil {
		t.Fatal(err)
	}
	loader, err := data.NewLoader(index, data.LoaderOptions{Rows: cfg.Trainer.perStep()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(loader.Close)
	be := cpu.New(threads)
	t.Cleanup(be.Close)
	w, err := model.NewWeights(be, cfg.Model, true)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Init(cfg.Trainer.Seed); err != nil {
		t.Fatal(err)
	}
	alone, err := newTeam(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	l, err := newLearner(be, w, cfg, alone, newShard(cfg, alone))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(l.close)
	return l, func(b *data.Batch) error { return loader.Next(context.Background(), b) }
}

// weightBits returns the weights as bits.
func weightBits(t *testing.T, l *learner) []uint32 {
	t.Helper()
	x := make([]float32, l.weights.Value.Size())
	if err := l.backend.Read(x, l.weights.Value); err != nil {
		t.Fatal(err)
	}
	bits := make([]uint32, len(x))
	for i, v := range x {
		bits[i] = math.Float32bits(v)
	}
	return bits
}

// TestThreadsChangeNoBit trains on 1, 2 and 4 workers.
func TestThreadsChangeNoBit(t *testing.T) {
	t.Parallel()
	cfg := tinyConfig(t.TempDir())
	var losses []float64
	var bits []uint32
	for _, threads := range []int{1, 2, 4} {
		l, next := newTestLearner(t, cfg, threads)
		var got []float64
		for step := int64(1); step <= 8; step++ {
			r, err := l.step(t.Context(), step, 8, next)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r.Loss, r.GradNorm)
		}
		if losses == nil {
			losses, bits = got, weightBits(t, l)
			if got[0] <= got[len(got)-2] {
				t.Errorf("the loss went from %v to %v", got[0], got[len(got)-2])
			}
			continue
		}
		if !slices.Equal(got, losses) {
			t.Errorf("%d threads: losses and norms %v, want %v", threads, got, losses)
		}
		if !slices.Equal(weightBits(t, l), bits) {
			t.Errorf("%d threads: the weights differ", threads)
		}
	}
}

// TestNonFiniteStepChangesNothing poisons a weight, and heals it.
func TestNonFiniteStepChangesNothing(t *testing.T) {
	t.Parallel()
	l, next := newTestLearner(t, tinyConfig(t.TempDir()), 2)
	w := l.weights.Param(l.weights.Value, 0)
	good := make([]float32, w.Size())
	if err := l.backend.Read(good, w); err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(good)
	for i := range bad {
		bad[i] = float32(math.Inf(1))
	}
	if err := l.backend.Write(w, bad); err != nil {
		t.Fatal(err)
	}
	before := weightBits(t, l)
	r, err := l.step(t.Context(), 1, 10, next)
	if err != nil {
		t.Fatal(err)
	}
	if r.Verdict != optim.NonFinite || l.state.NonFinite != 1 || l.state.Applied != 0 {
		t.Errorf("verdict %q, state %+v", r.Verdict, l.state)
	}
	if !slices.Equal(weightBits(t, l), before) {
		t.Error("a step that is not finite changed weights")
	}
	if err := l.backend.Write(w, good); err != nil {
		t.Fatal(err)
	}
	if r, err = l.step(t.Context(), 2, 10, next); err != nil || r.Verdict != optim.Applied || l.state.Applied != 1 {
		t.Errorf("after healing: %+v, %v", r, err)
	}
	if slices.Equal(weightBits(t, l), before) {
		t.Error("an applied step changed nothing")
	}
}

// TestAccumulationAddsUp: one micro-batch of 8 rows and four of 2 take the same
// step within rounding, as losses and gradients are sums over the global batch.
func TestAccumulationAddsUp(t *testing.T) {
	t.Parallel()
	cfg := tinyConfig(t.TempDir())
	var want StepResult
	for _, micro := range []int{1, 4} {
		cfg.Trainer.BatchSize, cfg.Trainer.Accumulation = 8/micro, micro
		l, next := newTestLearner(t, cfg, 2)
		r, err := l.step(t.Context(), 1, 10, next)
		if err != nil {
			t.Fatal(err)
		}
		if micro == 1 {
			want = r
			continue
		}
		for _, c := range []struct {
			name      string
			got, want float64
		}{{"loss", r.Loss, want.Loss}, {"aux", r.AuxLoss, want.AuxLoss}, {"gradient norm", r.GradNorm, want.GradNorm}} {
			if math.Abs(c.got/c.want-1) > 1e-5 {
				t.Errorf("%s: %v, want %v", c.name, c.got, c.want)
			}
		}
		for i := range r.Load {
			for e := range r.Load[i] {
				if math.Abs(r.Load[i][e]-want.Load[i][e]) > 1e-9 {
					t.Errorf("load of layer %d, expert %d: %v, want %v", i, e, r.Load[i][e], want.Load[i][e])
				}
			}
		}
	}
}

// TestMaskedTargetsTeachNothing: a target that is masked leaves no trace in the
// loss or the gradient.
func TestMaskedTargetsTeachNothing(t *testing.T) {
	t.Parallel()
	cfg := tinyConfig(t.TempDir())
	cfg.Trainer.Accumulation = 1
	var want StepResult
	for change := range int32(2) {
		l, next := newTestLearner(t, cfg, 2)
		r, err := l.step(t.Context(), 1, 10, func(b *data.Batch) error {
			err := next(b)
			last := len(b.Targets) - 1 // its input is seen by nobody else
			b.Targets[last], b.Inputs[last] = data.Ignored, 65+change
			b.Docs[last]++
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		if change == 0 {
			want = r
		} else if r.CELoss != want.CELoss {
			t.Errorf("loss %v, want %v", r.CELoss, want.CELoss)
		}
	}
}

// TestValidationGetsOn: whoever looks for a standstill hears of every batch.
func TestValidationGetsOn(t *testing.T) {
	t.Parallel()
	cfg := tinyConfig(t.TempDir())
	l, _ := newTestLearner(t, cfg, 1)
	corpus, err := data.Open(t.Context(), cfg.Data, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer corpus.Close()
	e, err := newEvaluator(l.backend, l.weights, cfg, l.team, l, corpus)
	if err != nil {
		t.Fatal(err)
	}
	defer e.close()
	batches, heard := 0, 0
	for range e.set.Batches(e.graph.Batch) {
		batches++
	}
	if _, err := e.run(t.Context(), func() { heard++ }); err != nil || heard != batches || batches < 2 {
		t.Errorf("%d batches, heard of %d, %v", batches, heard, err)
	}
}
