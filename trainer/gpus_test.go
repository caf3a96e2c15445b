package trainer

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"jambalaya/internal/cli"
	"jambalaya/internal/engine"
	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
)

func TestSharedOrNone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		places []string
		want   string
	}{
		{[]string{"a/0000:01:00.0", "a/0000:02:00.0", "b/0000:01:00.0"}, ""},
		{[]string{"a/0000:01:00.0", "b/0000:01:00.0", "a/0000:01:00.0"}, "ranks 0 and 2 share the GPU a/0000:01:00.0"},
		{[]string{"a/0000:01:00.0", "!it computes on device cpu"}, "rank 1: it computes on device cpu"},
	} {
		var places [][]byte
		for _, p := range c.places {
			places = append(places, []byte(p))
		}
		got := ""
		if err := sharedOrNone(places); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%v: %q, want %q", c.places, got, c.want)
		}
	}
}

// onHost is a TensorGroup for tensors in the host's memory.
type onHost struct {
	parallel.Group
	memory engine.HostMemory
	calls  *atomic.Int32
}

func (g onHost) floats(t *engine.Tensor) []float32 { g.calls.Add(1); return g.memory.Floats(t) }

func (g onHost) AllReduceTensor(ctx context.Context, op parallel.Op, t *engine.Tensor) error {
	return g.AllReduce(ctx, op, g.floats(t))
}

func (g onHost) ReduceScatterTensor(ctx context.Context, op parallel.Op, t *engine.Tensor, counts []int) error {
	return g.ReduceScatter(ctx, op, g.floats(t), counts)
}

func (g onHost) AllGatherTensor(ctx context.Context, op parallel.Op, t *engine.Tensor, counts []int) error {
	return parallel.AllGather(ctx, g.Group, op, g.floats(t), counts)
}

// TestTensorGroups: gradients and weights that are exchanged where they lie give the
// bits of those that are exchanged by the host.
func TestTensorGroups(t *testing.T) {
	t.Parallel()
	for _, zero1 := range []bool{false, true} {
		cfg := worldConfig(t.TempDir(), parallel.Mesh{Data: 2, Expert: 1})
		cfg.Parallel.Zero1 = zero1
		var calls atomic.Int32
		want := rehearsed(t, cfg, func(*team, engine.HostMemory) {})
		got := rehearsed(t, cfg, func(tm *team, m engine.HostMemory) {
			tm.dense, tm.column = onHost{tm.dense, m, &calls}, onHost{tm.column, m, &calls}
		})
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("ZeRO-1 %v: weight %d is %v, want %v", zero1, i, got[i], want[i])
			}
		}
		if calls.Load() == 0 {
			t.Errorf("ZeRO-1 %v: no tensor was exchanged", zero1)
		}
	}
}

// rehearsed returns the weights of rank 0 of two after three steps.
func rehearsed(t *testing.T, cfg Config, change func(*team, engine.HostMemory)) []float32 {
	t.Helper()
	network := inproc.New(2, nil)
	var weights []float32
	rank := func(i int) error {
		transport, err := network.Join(parallel.Identity{Run: testRun, Generation: 1}, i)
		if err != nil {
			return err
		}
		defer transport.Close()
		d, err := OpenDevice("cpu", 1)
		if err != nil {
			return err
		}
		defer d.Close()
		tm, err := newTeam(cfg, &World{Transport: transport})
		if err != nil {
			return err
		}
		change(tm, d.Backend.(engine.HostMemory))
		r, err := rehearse(d, cfg, tm)
		if err != nil {
			return err
		}
		defer r.Close()
		for range 3 {
			if _, err := r.Step(); err != nil {
				return err
			}
		}
		if i == 0 {
			weights = make([]float32, r.Weights().Value.Size())
			return d.Read(weights, r.Weights().Value)
		}
		return nil
	}
	errs := make([]error, 2)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() { errs[i] = rank(i) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	return weights
}

// TestNoGPU: asking for NCCL without GPUs is a fault of the configuration that names
// the rank and the key.
func TestNoGPU(t *testing.T) {
	t.Parallel()
	cfg := worldConfig(t.TempDir(), parallel.Mesh{Data: 2, Expert: 1})
	cfg.Parallel.Transport = "nccl"
	network := inproc.New(2, nil)
	var all sync.WaitGroup
	for i := range 2 {
		transport, err := network.Join(parallel.Identity{Run: testRun, Generation: 1}, i)
		if err != nil {
			t.Fatal(err)
		}
		all.Go(func() {
			defer transport.Close()
			d, err := OpenDevice("cpu", 1)
			if err != nil {
				t.Error(err)
				return
			}
			defer d.Close()
			_, err = NewRehearsal(d, cfg, &World{Transport: transport})
			if err == nil || cli.Code(err) != 78 || !strings.Contains(err.Error(), "parallel.transport: nccl: rank 0: it computes on device cpu") {
				t.Errorf("rank %d got %v", i, err)
			}
		})
	}
	all.Wait()
}
