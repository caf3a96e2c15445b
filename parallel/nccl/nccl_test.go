package nccl_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"jambalaya/internal/engine"
	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
	"jambalaya/parallel/nccl"
	"jambalaya/parallel/paralleltest"
)

var repeats = flag.Int("repeats", 20, "all-reduces whose bits are compared")

func TestConformance(t *testing.T) {
	gpus := devices(t, 1)
	t.Logf("%d GPUs", len(gpus))
	paralleltest.RunValues(t, len(gpus),
		func(t *testing.T, size int) paralleltest.World { return world{inproc.New(size, nil)} },
		func(ctx context.Context, tr parallel.Transport, name string, ranks []int, options parallel.GroupOptions) (parallel.Group, error) {
			m, err := nccl.NewMember(gpus[tr.Rank()], tr, options)
			if err != nil {
				return nil, err
			}
			return m.NewGroup(ctx, name, ranks)
		})
}

// TestTensors: operations on the devices' memory, several at a time, with transfers
// before and after that are ordered by marks and leads alone.
func TestTensors(t *testing.T) {
	gpus := devices(t, 1)
	size, n := len(gpus), 1<<18+5
	want := make([]float64, n)
	for r := range size {
		for i, v := range values(r, n) {
			want[i] += float64(v)
		}
	}
	check := func(what string, got []float32, from int) error {
		for i, v := range got {
			if w := want[from+i]; math.Abs(float64(v)-w) > 1e-6*max(1e4, math.Abs(w)) {
				return fmt.Errorf("%s: element %d is %v, want %v", what, from+i, v, w)
			}
		}
		return nil
	}
	counts := make([]int, size) // uneven
	for i := range counts {
		counts[i] = n / size / 2
	}
	counts[size-1] += n - size*(n/size/2)
	together(t, inproc.New(size, nil), 1, gpus, func(r rank) error {
		ctx, op := t.Context(), parallel.Op{Step: 3, Name: "test"}
		whole, cut := r.tensor(t, values(r.Rank(), n)), r.tensor(t, values(r.Rank(), n))
		mark, err := r.group.Mark()
		if err != nil {
			return err
		}
		err = errors.Join(r.group.AllReduceTensor(ctx, op, mark, whole), r.group.ReduceScatterTensor(ctx, op, mark, cut, counts), r.group.Lead())
		if err != nil {
			return err
		}
		lo := 0
		for _, c := range counts[:r.Rank()] {
			lo += c
		}
		got, own := make([]float32, n), make([]float32, counts[r.Rank()])
		if err := errors.Join(r.Read(got, whole), r.Read(own, part(cut, lo, len(own)))); err != nil {
			return err
		}
		if err := errors.Join(check("all-reduce", got, 0), check("reduce-scatter", own, lo)); err != nil {
			return err
		}
		if err := errors.Join(r.group.AllGatherTensor(ctx, op, 0, cut, counts), r.group.Lead(), r.Read(got, cut)); err != nil {
			return err
		}
		took, err := r.group.Finish(ctx, op)
		if err == nil && size > 1 && took <= 0 {
			err = fmt.Errorf("operations took %v", took)
		}
		return errors.Join(err, check("all-gather", got, 0))
	})
}

// TestExchange sends pieces of several sizes, several to each rank.
func TestExchange(t *testing.T) {
	gpus := devices(t, 1)
	size := len(gpus)
	rows := func(from, to, k int) int { return 1 + 1000*((from*5+to*3+k)%4) }
	together(t, inproc.New(size, nil), 1, gpus, func(r rank) error {
		var mine, want []float32
		var send, recv []parallel.Piece
		for peer := range size {
			for k := range 3 {
				for i := range rows(r.Rank(), peer, k) {
					mine = append(mine, float32(r.Rank()*1000_000+peer*100_000+k*10_000+i))
				}
				for i := range rows(peer, r.Rank(), k) {
					want = append(want, float32(peer*1000_000+r.Rank()*100_000+k*10_000+i))
				}
			}
		}
		from, to := r.tensor(t, mine), r.tensor(t, make([]float32, len(want)))
		out, in := 0, 0
		for peer := range size {
			for k := range 3 {
				n, m := rows(r.Rank(), peer, k), rows(peer, r.Rank(), k)
				send, recv = append(send, parallel.Piece{Rank: peer, Tensor: part(from, out, n)}), append(recv, parallel.Piece{Rank: peer, Tensor: part(to, in, m)})
				out, in = out+n, in+m
			}
		}
		op := parallel.Op{Name: "rows"}
		got := make([]float32, len(want))
		if err := errors.Join(r.group.ExchangeTensors(t.Context(), op, 0, send, recv), r.group.Lead(), r.Read(got, to)); err != nil {
			return err
		}
		if !slices.Equal(got, want) {
			return errors.New("received something else")
		}
		_, err := r.group.Finish(t.Context(), op)
		return err
	})
}

// TestSameBits: a sum has the same bits in every repeat, and on all ranks.
func TestSameBits(t *testing.T) {
	gpus := devices(t, 2)
	const n = 4 << 20
	first := make([][]float32, len(gpus))
	together(t, inproc.New(len(gpus), nil), 1, gpus, func(r rank) error {
		x, got := values(r.Rank(), n), make([]float32, n)
		f := r.tensor(t, x)
		for i := range *repeats {
			op := parallel.Op{Step: int64(i), Name: "repeat"}
			if err := errors.Join(r.Write(f, x), r.group.AllReduceTensor(t.Context(), op, 0, f), r.group.Lead(), r.Read(got, f)); err != nil {
				return err
			}
			if _, err := r.group.Finish(t.Context(), op); err != nil {
				return err
			}
			if i == 0 {
				first[r.Rank()] = slices.Clone(got)
			} else if !slices.Equal(got, first[r.Rank()]) {
				return fmt.Errorf("repeat %d differs from the first", i)
			}
		}
		return nil
	})
	for i, x := range first {
		if !slices.Equal(x, first[0]) {
			t.Errorf("rank %d has other bits than rank 0", i)
		}
	}
	t.Logf("%d repeats of %d MiB on %d GPUs", *repeats, 4*n>>20, len(gpus))
}

// TestPeerGivesUp: a rank whose peer aborts or leaves in the middle of operations of two
// groups ends its own, and both go on in the next generation.
func TestPeerGivesUp(t *testing.T) {
	gpus := devices(t, 2)[:2]
	for name, c := range map[string]struct {
		give func(r rank)
		want error
	}{
		"abort": {func(r rank) { r.Abort(errors.New("out of luck")) }, parallel.ErrAborted},
		"leave": {func(r rank) { r.Transport.Close() }, parallel.ErrLost},
	} {
		t.Run(name, func(t *testing.T) {
			network := inproc.New(2, nil)
			met := make(chan struct{}, 2)
			together(t, network, 1, gpus, func(r rank) error {
				first, second := r.tensor(t, values(r.Rank(), 1<<20)), r.tensor(t, values(r.Rank(), 1<<20))
				if err := errors.Join(sumUp(t, r.group, first), sumUp(t, r.other, second)); err != nil {
					return err
				}
				if r.Rank() == 1 {
					<-met
					<-met
					time.Sleep(50 * time.Millisecond) // the other's operations are on its device
					c.give(r)
					return nil
				}
				errs := make(chan error, 2)
				go func() { met <- struct{}{}; errs <- sumUp(t, r.group, first) }()
				go func() { met <- struct{}{}; errs <- sumUp(t, r.other, second) }()
				for range 2 {
					if err := <-errs; !errors.Is(err, c.want) {
						return fmt.Errorf("got %v, want %v", err, c.want)
					}
				}
				if again := r.group.Barrier(t.Context(), parallel.Op{}); !errors.Is(again, parallel.ErrAborted) {
					return fmt.Errorf("an operation after the abort: %v", again)
				}
				return r.Sync() // the device is usable
			})
			together(t, network, 2, gpus, func(r rank) error {
				return errors.Join(r.group.Barrier(t.Context(), parallel.Op{}), r.other.Barrier(t.Context(), parallel.Op{}))
			})
		})
	}
}

// sumUp waits for an all-reduce.
func sumUp(t *testing.T, g *nccl.Group, f *engine.Tensor) error {
	op := parallel.Op{Step: 9, Name: "test"}
	if err := g.AllReduceTensor(t.Context(), op, 0, f); err != nil {
		return err
	}
	_, err := g.Finish(t.Context(), op)
	return err
}

// TestAbort: a cancelled operation ends the group and the generation.
func TestAbort(t *testing.T) {
	together(t, inproc.New(1, nil), 1, devices(t, 1)[:1], func(r rank) error {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.group.Barrier(ctx, parallel.Op{Step: 3, Name: "start"}); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v, want %v", err, context.Canceled)
		}
		if err := r.group.Barrier(t.Context(), parallel.Op{}); !errors.Is(err, parallel.ErrAborted) {
			t.Errorf("after the abort: %v, want %v", err, parallel.ErrAborted)
		}
		return r.group.Close()
	})
}

func TestArguments(t *testing.T) {
	together(t, inproc.New(1, nil), 1, devices(t, 1)[:1], func(r rank) error {
		if err := r.group.ReduceScatter(t.Context(), parallel.Op{}, make([]float32, 3), []int{2}); !errors.Is(err, parallel.ErrArgument) {
			t.Errorf("counts that do not add up: %v", err)
		}
		return nil
	})
}
