package paralleltest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"jambalaya/parallel"
)

// fails runs f on all ranks of a world and returns what each got.
func (s *suite) fails(t *testing.T, size int, f func(ctx context.Context, g parallel.Group) error) []error {
	t.Helper()
	transports := s.join(t, size)
	errs := make([]error, size)
	each(t, size, func(ctx context.Context, rank int) {
		errs[rank] = f(ctx, group(t, transports[rank], "all", patience))
		if ctx.Err() != nil {
			t.Errorf("rank %d hung: %v", rank, errs[rank])
		}
	})
	return errs
}

// gaveUp checks that one rank failed with want, and that all others were told by it.
func gaveUp(t *testing.T, errs []error, who int, want error) {
	t.Helper()
	for rank, err := range errs {
		var aborted *parallel.AbortError
		switch {
		case rank == who && !errors.Is(err, want):
			t.Errorf("rank %d got %v, want %v", rank, err, want)
		case rank != who && (!errors.As(err, &aborted) || aborted.Rank != who):
			t.Errorf("rank %d got %v, want that rank %d gave up", rank, err, who)
		case rank != who && !strings.Contains(err.Error(), fmt.Sprintf("in step 7 on rank %d", who)):
			t.Errorf("rank %d got %q, which does not say where rank %d was", rank, err, who)
		}
	}
}

func (s *suite) arguments(t *testing.T) {
	errs := s.fails(t, 2, func(ctx context.Context, g parallel.Group) error {
		if g.Rank() == 1 {
			return g.ReduceScatter(ctx, op, make([]float32, 10), []int{5, 4})
		}
		return g.ReduceScatter(ctx, op, make([]float32, 10), []int{5, 5})
	})
	gaveUp(t, errs, 1, parallel.ErrArgument)
}

// mismatch has ranks call different things; who notices first is a matter of luck.
func (s *suite) mismatch(t *testing.T) {
	for name, f := range map[string]func(ctx context.Context, g parallel.Group) error{
		"operation": func(ctx context.Context, g parallel.Group) error {
			if g.Rank() == 0 {
				return g.Barrier(ctx, op)
			}
			return g.AllReduce(ctx, op, make([]float32, 100))
		},
		"size": func(ctx context.Context, g parallel.Group) error {
			return g.AllReduce(ctx, op, make([]float32, 100+g.Rank()))
		},
		"step": func(ctx context.Context, g parallel.Group) error {
			return g.Barrier(ctx, parallel.Op{Step: int64(g.Rank()), Name: "test"})
		},
		"counts": func(ctx context.Context, g parallel.Group) error {
			n := []int{0, 8}[g.Rank()]
			return g.AllToAll(ctx, op, make([]byte, 2*n), []int{n, n}, make([]byte, 2*n), []int{n, n})
		},
	} {
		errs := s.fails(t, 2, f)
		if !errors.Is(errs[0], parallel.ErrMismatch) && !errors.Is(errs[1], parallel.ErrMismatch) {
			t.Errorf("%s: %v; %v", name, errs[0], errs[1])
		}
		for _, err := range errs {
			if err == nil || !strings.Contains(err.Error(), parallel.ErrMismatch.Error()) {
				t.Errorf("%s: a rank was not told: %v", name, err)
			}
		}
	}
}

// stuck has rank 1 stay away until rank 0 has failed; with gives rank 0's context.
func (s *suite) stuck(t *testing.T, timeout time.Duration, with func(context.Context) (context.Context, context.CancelFunc)) []error {
	t.Helper()
	const size = 3
	transports := s.join(t, size)
	failed := make(chan struct{})
	errs := make([]error, size)
	each(t, size, func(ctx context.Context, rank int) {
		switch rank {
		case 0:
			g := group(t, transports[rank], "all", timeout)
			ctx, cancel := with(ctx)
			defer cancel()
			errs[0] = g.AllReduce(ctx, op, make([]float32, 5000))
			close(failed)
		case 1:
			<-failed
			fallthrough
		default:
			errs[rank] = group(t, transports[rank], "all", patience).AllReduce(ctx, op, make([]float32, 5000))
		}
	})
	for rank, err := range errs {
		if errors.Is(err, context.DeadlineExceeded) && rank != 0 {
			t.Errorf("rank %d hung: %v", rank, err)
		}
	}
	return errs
}

func (s *suite) cancel(t *testing.T) {
	errs := s.stuck(t, patience, func(ctx context.Context) (context.Context, context.CancelFunc) {
		ctx, cancel := context.WithCancel(ctx)
		time.AfterFunc(20*time.Millisecond, cancel)
		return ctx, cancel
	})
	gaveUp(t, errs, 0, context.Canceled)
}

func (s *suite) deadline(t *testing.T) {
	errs := s.stuck(t, patience, func(ctx context.Context) (context.Context, context.CancelFunc) {
		return context.WithTimeout(ctx, 20*time.Millisecond)
	})
	gaveUp(t, errs, 0, context.DeadlineExceeded)
}

func (s *suite) timeout(t *testing.T) {
	errs := s.stuck(t, 20*time.Millisecond, context.WithCancel)
	gaveUp(t, errs, 0, parallel.ErrTimeout)
	if got := errs[0].Error(); !strings.Contains(got, ": no answer: rank ") {
		t.Errorf("%q does not say which rank did not answer", got)
	}
}

// abort: one rank gives up while the others are in the middle of an operation.
func (s *suite) abort(t *testing.T) {
	const size = 3
	transports := s.join(t, size)
	reason := errors.New("all-reduce \"x\" of group all in step 7 on rank 1: out of memory")
	errs := make([]error, size)
	each(t, size, func(ctx context.Context, rank int) {
		g := group(t, transports[rank], "all", patience)
		if errs[rank] = g.AllReduce(ctx, op, make([]float32, 5000)); errs[rank] != nil {
			return
		}
		if rank == 1 {
			transports[rank].Abort(reason)
			return
		}
		errs[rank] = g.AllReduce(ctx, op, make([]float32, 5000))
		if again := g.Barrier(ctx, op); !errors.Is(again, parallel.ErrAborted) {
			t.Errorf("rank %d: an operation after the abort got %v", rank, again)
		}
	})
	errs[1] = reason
	gaveUp(t, errs, 1, reason)
}

// leave: a rank closes its transport; what it sent is received, what it did not
// send is not waited for.
func (s *suite) leave(t *testing.T) {
	transports := s.join(t, 2)
	each(t, 2, func(ctx context.Context, rank int) {
		g := group(t, transports[rank], "all", patience)
		if err := g.AllReduce(ctx, op, make([]float32, 500)); err != nil {
			t.Error(err)
		}
		if rank == 1 {
			if err := transports[rank].Close(); err != nil {
				t.Error(err)
			}
			return
		}
		err := g.AllReduce(ctx, op, make([]float32, 500))
		if !errors.Is(err, parallel.ErrLost) || !strings.Contains(err.Error(), "rank 1") {
			t.Errorf("after rank 1 has left: %v, want %v", err, parallel.ErrLost)
		}
	})
}

// stale: rank 0 is still in generation 1 when rank 1 has gone on to generation 2.
func (s *suite) stale(t *testing.T) {
	world := s.newWorld(t, 2)
	join := func(ctx context.Context, generation uint64, rank int) parallel.Group {
		transport, err := world.Join(ctx, parallel.Identity{Run: run, Generation: generation}, rank)
		if err != nil {
			t.Error(err)
			return nil
		}
		t.Cleanup(func() { transport.Close() })
		return group(t, transport, "all", patience)
	}
	met, stale := make(chan struct{}), make(chan struct{})
	each(t, 2, func(ctx context.Context, rank int) {
		old := join(ctx, 1, rank)
		if err := old.Barrier(ctx, op); err != nil {
			t.Errorf("generation 1, rank %d: %v", rank, err)
		}
		if rank == 0 {
			close(met)
			if err := old.AllReduce(ctx, op, make([]float32, 500)); !errors.Is(err, parallel.ErrGeneration) {
				t.Errorf("a stale rank got %v, want %v", err, parallel.ErrGeneration)
			}
			close(stale)
			old = join(ctx, 2, rank)
		} else {
			<-met
			renewed := join(ctx, 2, rank)
			<-stale
			if err := old.Barrier(ctx, op); !errors.Is(err, parallel.ErrGeneration) {
				t.Errorf("the old hold of a renewed rank got %v, want %v", err, parallel.ErrGeneration)
			}
			old = renewed
		}
		// Nothing of generation 1 is left in the way.
		x := []float32{float32(rank + 1)}
		if err := old.AllReduce(ctx, op, x); err != nil || x[0] != 3 {
			t.Errorf("generation 2, rank %d: %v, %v", rank, x, err)
		}
	})
}

// staleMessage: a message that claims another generation than its connection's.
func (s *suite) staleMessage(t *testing.T) {
	transports := s.join(t, 2)
	each(t, 2, func(ctx context.Context, rank int) {
		if rank == 1 {
			h := parallel.Header{Run: run, Generation: 99, Step: op.Step, Kind: parallel.KindAllReduce}
			// Refused here or there.
			if err := transports[1].Channel("all").Send(ctx, 0, parallel.Message{Header: h}); err != nil {
				transports[1].Abort(err)
			}
			return
		}
		err := group(t, transports[0], "all", patience).AllReduce(ctx, op, make([]float32, 1))
		if err == nil || !strings.Contains(err.Error(), parallel.ErrGeneration.Error()) {
			t.Errorf("a message of generation 99 got %v, want %v", err, parallel.ErrGeneration)
		}
	})
}
