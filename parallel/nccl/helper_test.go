package nccl_test

import (
	"context"
	"math"
	"sync"
	"testing"
	"time"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/engine"
	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
	"jambalaya/parallel/nccl"
)

// devices opens the GPUs of the machine, of which a test needs some: each rank needs one
// of its own.
func devices(t testing.TB, need int) []*cuda.Backend {
	t.Helper()
	if _, err := nccl.Version(); err != nil {
		t.Skip(err)
	}
	var all []*cuda.Backend
	for len(all) < 8 {
		b, err := cuda.New(len(all))
		if err != nil {
			if len(all) < need {
				t.Skipf("%d GPUs are needed: %v", need, err)
			}
			break
		}
		t.Cleanup(b.Close)
		all = append(all, b)
	}
	return all
}

type world struct{ *inproc.Network }

func (w world) Join(_ context.Context, id parallel.Identity, rank int) (parallel.Transport, error) {
	return w.Network.Join(id, rank)
}

// rank is what a test runs on each GPU.
type rank struct {
	*cuda.Backend
	parallel.Transport
	group, other *nccl.Group // of all
}

// together runs f on every GPU, as one rank each of a generation.
func together(t testing.TB, network *inproc.Network, generation uint64, gpus []*cuda.Backend, f func(r rank) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	ranks := make([]int, len(gpus))
	for i := range ranks {
		ranks[i] = i
	}
	var all sync.WaitGroup
	for i, b := range gpus {
		all.Go(func() {
			tr, err := network.Join(parallel.Identity{Run: 1, Generation: generation}, i)
			if err != nil {
				t.Error(err)
				return
			}
			defer tr.Close()
			m, err := nccl.NewMember(b, tr, parallel.GroupOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			r := rank{Backend: b, Transport: tr}
			for i, g := range []**nccl.Group{&r.group, &r.other} {
				if *g, err = m.NewGroup(ctx, []string{"all", "other"}[i], ranks); err != nil {
					t.Error(err)
					return
				}
				defer (*g).Close()
			}
			if err := f(r); err != nil {
				t.Errorf("rank %d: %v", i, err)
			}
		})
	}
	all.Wait()
}

// values are different on every rank, and of magnitudes at which the order of a sum shows.
func values(rank, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(math.Sin(float64(i*(rank+3))) * math.Pow(10, float64((i+rank)%5)))
	}
	return x
}

// tensor puts numbers on a rank's device.
func (r rank) tensor(t testing.TB, x []float32) *engine.Tensor {
	mem, err := r.Alloc(int64(4 * max(1, len(x))))
	if err != nil {
		t.Error(err)
	}
	f := &engine.Tensor{Shape: []int{len(x)}, DType: engine.Float32, Mem: mem}
	if err := r.Write(f, x); err != nil {
		t.Error(err)
	}
	return f
}

func part(f *engine.Tensor, from, n int) *engine.Tensor {
	return &engine.Tensor{Shape: []int{n}, DType: f.DType, Mem: f.Mem, Off: f.Off + int64(from)*f.DType.Bytes()}
}
