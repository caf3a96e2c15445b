package inproc_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
	"jambalaya/parallel/paralleltest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world makes ranks of one network.
type world struct{ *inproc.Network }

func (w world) Join(_ context.Context, id parallel.Identity, rank int) (parallel.Transport, error) {
	return w.Network.Join(id, rank)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	paralleltest.Run(t, 8, func(t *testing.T, size int) paralleltest.World {
		return world{inproc.New(size, nil)}
	})
}

// TestConformanceOverLinks runs the suite over links that are slow, each in its own
// way.
func TestConformanceOverLinks(t *testing.T) {
	t.Parallel()
	paralleltest.Run(t, 3, func(t *testing.T, size int) paralleltest.World {
		return world{inproc.New(size, func(from, to int) inproc.Link {
			return inproc.Link{BytesPerSecond: 1e8 * float64(from+1), Latency: time.Duration(to*10) * time.Microsecond}
		})}
	})
}

// TestTime checks the virtual time of an all-reduce over slow links: every rank
// sends 2 (n-1)/n of the data, and chunks under way hide the latency of the steps.
func TestTime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const size, elements, bandwidth, latency = 4, 1 << 18, 1e9, 20 * time.Microsecond
		network := inproc.New(size, func(from, to int) inproc.Link {
			return inproc.Link{BytesPerSecond: bandwidth, Latency: latency}
		})
		start := time.Now()
		var ranks sync.WaitGroup
		for rank := range size {
			ranks.Go(func() {
				if err := reduceOnce(t.Context(), network, rank, make([]float32, elements)); err != nil {
					t.Error(err)
				}
			})
		}
		ranks.Wait()
		took := time.Since(start)
		least := time.Duration(2 * 4 * elements * (size - 1) / size / bandwidth * 1e9)
		if took < least || took > least*115/100 {
			t.Errorf("took %v, want %v to 15%% more", took, least)
		}
	})
}

func reduceOnce(ctx context.Context, network *inproc.Network, rank int, x []float32) error {
	transport, err := network.Join(parallel.Identity{Generation: 1}, rank)
	if err != nil {
		return err
	}
	g, err := parallel.NewGroup(transport, "all", []int{0, 1, 2, 3}, parallel.GroupOptions{ChunkBytes: 16 << 10})
	if err != nil {
		return err
	}
	return g.AllReduce(ctx, parallel.Op{Name: "x"}, x)
}
