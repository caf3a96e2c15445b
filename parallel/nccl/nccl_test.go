package nccl_test

import (
	"context"
	"errors"
	"math"
	"testing"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/engine"
	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
	"jambalaya/parallel/nccl"
	"jambalaya/parallel/paralleltest"
)

// devices opens every GPU of the machine; each rank needs one of its own.
func devices(t *testing.T) []*cuda.Backend {
	t.Helper()
	if _, err := nccl.Version(); err != nil {
		t.Skip(err)
	}
	var all []*cuda.Backend
	for {
		b, err := cuda.New(len(all))
		if err != nil && len(all) == 0 {
			t.Skip(err)
		}
		if err != nil {
			return all
		}
		t.Cleanup(b.Close)
		all = append(all, b)
	}
}

type world struct{ *inproc.Network }

func (w world) Join(_ context.Context, id parallel.Identity, rank int) (parallel.Transport, error) {
	return w.Network.Join(id, rank)
}

func TestConformance(t *testing.T) {
	gpus := devices(t)
	t.Logf("%d GPUs", len(gpus))
	paralleltest.RunValues(t, len(gpus),
		func(t *testing.T, size int) paralleltest.World { return world{inproc.New(size, nil)} },
		func(ctx context.Context, tr parallel.Transport, name string, ranks []int, options parallel.GroupOptions) (parallel.Group, error) {
			return nccl.NewGroup(ctx, gpus[tr.Rank()], tr, name, ranks, options)
		})
}

// alone returns the group of one rank on the first GPU.
func alone(t *testing.T) (*cuda.Backend, *nccl.Group) {
	t.Helper()
	b := devices(t)[0]
	tr, err := inproc.New(1, nil).Join(parallel.Identity{Run: 1, Generation: 1}, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tr.Close() })
	g, err := nccl.NewGroup(t.Context(), b, tr, "alone", []int{0}, parallel.GroupOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { g.Close() })
	return b, g
}

// TestTensor: sums of one rank are what was written just before, in both types.
func TestTensor(t *testing.T) {
	b, g := alone(t)
	mem, err := b.Alloc(4 << 20)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Free(mem)
	x := make([]float32, 1<<18+5)
	for i := range x {
		x[i] = float32(math.Sin(float64(i)))
	}
	f := &engine.Tensor{Shape: []int{len(x)}, DType: engine.Float32, Mem: mem}
	for step := range 3 {
		x[0] = float32(step)
		if err := b.Write(f, x); err != nil {
			t.Fatal(err)
		}
		if err := g.AllReduceTensor(t.Context(), parallel.Op{Name: "gradient"}, f); err != nil {
			t.Fatal(err)
		}
		got := make([]float32, len(x))
		if err := b.Read(got, f); err != nil {
			t.Fatal(err)
		}
		for i := range x {
			if got[i] != x[i] {
				t.Fatalf("step %d: element %d is %v, want %v", step, i, got[i], x[i])
			}
		}
	}
	h := &engine.Tensor{Shape: []int{1000}, DType: engine.BFloat16, Mem: mem}
	if err := g.AllReduceTensor(t.Context(), parallel.Op{}, h); err != nil {
		t.Error(err)
	}
}

// TestAbort: a cancelled operation ends the group and the generation.
func TestAbort(t *testing.T) {
	_, g := alone(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.Barrier(ctx, parallel.Op{Step: 3, Name: "start"}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want %v", err, context.Canceled)
	}
	if err := g.Barrier(t.Context(), parallel.Op{}); !errors.Is(err, parallel.ErrAborted) {
		t.Errorf("after the abort: %v, want %v", err, parallel.ErrAborted)
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

func TestArguments(t *testing.T) {
	_, g := alone(t)
	if err := g.ReduceScatter(t.Context(), parallel.Op{}, make([]float32, 3), []int{2}); !errors.Is(err, parallel.ErrArgument) {
		t.Errorf("counts that do not add up: %v", err)
	}
}

func BenchmarkAllReduce(b *testing.B) {
	be, err := cuda.New(0)
	if err != nil {
		b.Skip(err)
	}
	defer be.Close()
	tr, err := inproc.New(1, nil).Join(parallel.Identity{Run: 1, Generation: 1}, 0)
	if err != nil {
		b.Fatal(err)
	}
	g, err := nccl.NewGroup(b.Context(), be, tr, "alone", []int{0}, parallel.GroupOptions{})
	if err != nil {
		b.Skip(err)
	}
	defer g.Close()
	mem, err := be.Alloc(64 << 20)
	if err != nil {
		b.Fatal(err)
	}
	t := &engine.Tensor{Shape: []int{16 << 20}, DType: engine.Float32, Mem: mem}
	b.SetBytes(t.Bytes())
	for b.Loop() {
		if err := g.AllReduceTensor(b.Context(), parallel.Op{}, t); err != nil {
			b.Fatal(err)
		}
	}
}
