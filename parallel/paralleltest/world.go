package paralleltest

import (
	"context"
	"errors"
	"io"
	"sync"
	"testing"
	"time"

	"jambalaya/parallel"
)

// World makes the ranks of a test.
type World interface {
	// Join returns the transport of a rank in a generation.
	Join(ctx context.Context, id parallel.Identity, rank int) (parallel.Transport, error)
}

// run is the run of all tests.
const run = 0xfeed

// patience is what a test allows for anything that must not hang.
const patience = 20 * time.Second

// suite is a transport under test, or a kind of group over one.
type suite struct {
	maxSize  int
	newWorld func(t *testing.T, size int) World
	newGroup NewGroup
	sum      func(size, n int, counts []int) []float32 // of the ranks' gradients
	compare  func(got, want []float32) error           // sums
}

// NewGroup makes a rank's hold on the group of some ranks.
type NewGroup func(ctx context.Context, t parallel.Transport, name string, ranks []int, options parallel.GroupOptions) (parallel.Group, error)

// overTransport makes the groups of package parallel itself.
func overTransport(_ context.Context, t parallel.Transport, name string, ranks []int, options parallel.GroupOptions) (parallel.Group, error) {
	return parallel.NewGroup(t, name, ranks, options)
}

// overTree makes those whose sums are taken in a tree.
func overTree(ctx context.Context, t parallel.Transport, name string, ranks []int, options parallel.GroupOptions) (parallel.Group, error) {
	options.Tree = true
	return overTransport(ctx, t, name, ranks, options)
}

// sizes are those of the worlds that values are compared in.
func (s *suite) sizes() []int {
	var sizes []int
	for size := 1; size <= min(4, s.maxSize); size++ {
		sizes = append(sizes, size)
	}
	if s.maxSize > 4 {
		sizes = append(sizes, s.maxSize)
	}
	return sizes
}

// Run tests a transport with worlds of 1 to 4 and maxSize ranks; maxSize is at
// least 3.
func Run(t *testing.T, maxSize int, newWorld func(t *testing.T, size int) World) {
	s := &suite{maxSize, newWorld, overTransport, ringSum, same}
	tree := &suite{maxSize, newWorld, overTree, treeSum, same}
	for _, c := range append(s.values(),
		testCase{"TreeAllReduce", tree.allReduce},
		testCase{"TreeReduceScatterAllGather", tree.reduceScatter},
		testCase{"Groups", s.groups},
		testCase{"Arguments", s.arguments},
		testCase{"Mismatch", s.mismatch},
		testCase{"Cancel", s.cancel},
		testCase{"Deadline", s.deadline},
		testCase{"Timeout", s.timeout},
		testCase{"Abort", s.abort},
		testCase{"Leave", s.leave},
		testCase{"Stale", s.stale},
		testCase{"StaleMessage", s.staleMessage},
	) {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.test(t)
		})
	}
}

// RunValues tests what groups of another make compute, in worlds of 1 to maxSize
// ranks, one test at a time. Their sums may be in another order.
func RunValues(t *testing.T, maxSize int, newWorld func(t *testing.T, size int) World, newGroup NewGroup) {
	s := &suite{maxSize, newWorld, newGroup, ringSum, near}
	for _, c := range s.values() {
		t.Run(c.name, c.test)
	}
}

type testCase struct {
	name string
	test func(*testing.T)
}

// values are the tests of what operations compute.
func (s *suite) values() []testCase {
	return []testCase{
		{"AllReduce", s.allReduce},
		{"ReduceScatterAllGather", s.reduceScatter},
		{"AllToAll", s.allToAll},
		{"AllToAllRandom", s.allToAllRandom},
		{"Broadcast", s.broadcast},
		{"Barrier", s.barrier},
	}
}

// join makes all ranks of a world in generation 1; they are closed at the test's
// end.
func (s *suite) join(t *testing.T, size int) []parallel.Transport {
	t.Helper()
	world := s.newWorld(t, size)
	transports := make([]parallel.Transport, size)
	each(t, size, func(ctx context.Context, rank int) {
		transport, err := world.Join(ctx, parallel.Identity{Run: run, Generation: 1}, rank)
		if err != nil {
			t.Errorf("rank %d: %v", rank, err)
			return
		}
		transports[rank] = transport
	})
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() {
		each(t, size, func(_ context.Context, rank int) {
			if err := transports[rank].Close(); err != nil {
				t.Errorf("close rank %d: %v", rank, err)
			}
		})
	})
	return transports
}

// each calls f for every rank at once and waits for all.
func each(t *testing.T, size int, f func(ctx context.Context, rank int)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var wait sync.WaitGroup
	for rank := range size {
		wait.Go(func() { f(ctx, rank) })
	}
	wait.Wait()
}

// chunk is small, so that little data makes many messages.
const chunk = 64

// group returns the hold of one rank on the group of all.
func group(t *testing.T, transport parallel.Transport, name string, timeout time.Duration) parallel.Group {
	t.Helper()
	g, err := parallel.NewGroup(transport, name, everyone(transport), parallel.GroupOptions{ChunkBytes: chunk, Timeout: timeout})
	if err != nil {
		t.Error(err)
	}
	return g
}

// everyone lists the ranks of a world.
func everyone(transport parallel.Transport) []int {
	ranks := make([]int, transport.Size())
	for i := range ranks {
		ranks[i] = i
	}
	return ranks
}

// collective runs f on the group of all ranks of a new world.
func (s *suite) collective(t *testing.T, size int, f func(ctx context.Context, g parallel.Group) error) {
	t.Helper()
	transports := s.join(t, size)
	each(t, size, func(ctx context.Context, rank int) {
		g, err := s.newGroup(ctx, transports[rank], "all", everyone(transports[rank]), parallel.GroupOptions{ChunkBytes: chunk, Timeout: patience})
		if err == nil {
			err = f(ctx, g)
			if c, ok := g.(io.Closer); ok {
				err = errors.Join(err, c.Close())
			}
		}
		if err != nil {
			t.Errorf("%d ranks: %v", size, err)
		}
	})
}
