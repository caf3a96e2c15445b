package trainer

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

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
	device *Device
	calls  *atomic.Int32
}

func (g onHost) floats(t *engine.Tensor) []float32 {
	g.calls.Add(1)
	return g.device.Backend.(engine.HostMemory).Floats(t)
}

func (g onHost) Mark() (parallel.Mark, error) { return 0, nil }
func (g onHost) Lead() error                  { return nil }

func (g onHost) Finish(context.Context, parallel.Op) (time.Duration, error) { return 0, nil }

func (g onHost) AllReduceTensor(ctx context.Context, op parallel.Op, _ parallel.Mark, t *engine.Tensor) error {
	return g.AllReduce(ctx, op, g.floats(t))
}

func (g onHost) ReduceScatterTensor(ctx context.Context, op parallel.Op, _ parallel.Mark, t *engine.Tensor, counts []int) error {
	return g.ReduceScatter(ctx, op, g.floats(t), counts)
}

func (g onHost) AllGatherTensor(ctx context.Context, op parallel.Op, _ parallel.Mark, t *engine.Tensor, counts []int) error {
	return parallel.AllGather(ctx, g.Group, op, g.floats(t), counts)
}

// ExchangeTensors sends the bits of all elements, by rank.
func (g onHost) ExchangeTensors(ctx context.Context, op parallel.Op, _ parallel.Mark, send, recv []parallel.Piece) error {
	g.calls.Add(1)
	var out []int32
	sends, receives := make([]int, g.Size()), make([]int, g.Size())
	for rank := range g.Size() {
		for _, p := range send {
			if p.Rank == rank {
				x := make([]int32, p.Tensor.Size())
				if err := g.device.Read(x, asBits(p.Tensor)); err != nil {
					return err
				}
				out = append(out, x...)
				sends[rank] += len(x)
			}
		}
	}
	n := 0
	for _, p := range recv {
		receives[p.Rank] += p.Tensor.Size()
		n += p.Tensor.Size()
	}
	in := make([]int32, n)
	if err := parallel.AllToAll(ctx, g.Group, op, out, sends, in, receives); err != nil {
		return err
	}
	for rank := range g.Size() {
		for _, p := range recv {
			if p.Rank == rank {
				if err := g.device.Write(asBits(p.Tensor), in[:p.Tensor.Size()]); err != nil {
					return err
				}
				in = in[p.Tensor.Size():]
			}
		}
	}
	return nil
}

// asBits is a tensor of words as integers.
func asBits(t *engine.Tensor) *engine.Tensor {
	words := *t
	words.DType = engine.Int32
	return &words
}

// TestTensorGroups: gradients, weights and tokens that are exchanged where they lie give
// the bits of those that are exchanged by the host.
func TestTensorGroups(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		mesh  parallel.Mesh
		zero1 bool
		chunk float64
		parts int
	}{
		{parallel.Mesh{Data: 2, Expert: 1}, false, 1.25, 0},
		{parallel.Mesh{Data: 2, Expert: 1}, true, 1.25, 0},
		{parallel.Mesh{Data: 1, Expert: 2}, false, 1.25, 0},
		{parallel.Mesh{Data: 1, Expert: 2}, true, 0.3, 0}, // several rounds
		{parallel.Mesh{Data: 2, Expert: 2}, true, 1.25, 0},
		{parallel.Mesh{Data: 2, Expert: 1}, true, 1.25, 4},
		{parallel.Mesh{Data: 1, Expert: 2}, false, 1.25, 8},
	} {
		cfg := worldConfig(t.TempDir(), c.mesh)
		cfg.Parallel.Zero1, cfg.Parallel.ExpertChunk, cfg.Trainer.Parts = c.zero1, c.chunk, c.parts
		var calls atomic.Int32
		want := rehearsed(t, cfg, func(*team, *Device) {})
		got := rehearsed(t, cfg, func(tm *team, d *Device) {
			tm.dense, tm.column, tm.row = onHost{tm.dense, d, &calls}, onHost{tm.column, d, &calls}, onHost{tm.row, d, &calls}
		})
		for i := range want {
			if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
				t.Fatalf("%+v: weight %d is %v, want %v", c, i, got[i], want[i])
			}
		}
		if calls.Load() == 0 {
			t.Errorf("%+v: no tensor was exchanged", c)
		}
	}
}

// rehearsed returns the weights of rank 0 after three steps.
func rehearsed(t *testing.T, cfg Config, change func(*team, *Device)) []float32 {
	t.Helper()
	size := cfg.Parallel.Mesh().Size()
	network := inproc.New(size, nil)
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
		change(tm, d)
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
	errs := make([]error, size)
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
