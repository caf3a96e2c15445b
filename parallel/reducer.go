package parallel

import (
	"context"
	"fmt"
	"time"

	"jambalaya/internal/engine"
)

// Reducer adds a flat buffer of gradients up over the ranks of a group, bucket by
// bucket, while the backward pass goes on: a bucket starts as soon as its gradients
// are final.
//
//	r.Begin(ctx, step)
//	...               // backward calls r.Ready(i) for each bucket, in the same order on all ranks
//	err := r.Wait()   // the sums are there
//
// The buckets go one after the other. A Reducer is used by one goroutine.
type Reducer struct {
	group   Group
	buckets []Bucket

	ready  chan finished // buckets to reduce; nil between steps
	done   chan error
	cancel context.CancelCauseFunc // of the step
	busy   time.Duration           // of the step's collectives; read after done
	times  Times
}

// finished is a bucket whose gradients are final, on a device once it is past the mark.
type finished struct {
	bucket int
	after  Mark
	err    error // there is no mark
}

// Bucket is a part of the buffer that is reduced at a time.
type Bucket struct {
	Data []float32
	// Tensor, if not nil, stands for Data in the memory of a device; the group is a
	// TensorGroup.
	Tensor *engine.Tensor
	// Counts, if not nil, are the lengths of the parts of Data that the ranks want:
	// each gets the sum of its own only, as Group.ReduceScatter does.
	Counts []int
}

// Times add up what the reductions took, and how much of it the backward pass did
// not hide.
type Times struct {
	Busy    time.Duration // collectives were under way
	Blocked time.Duration // Wait waited for them
}

// Hidden is the share of the communication that the computation hid.
func (t Times) Hidden() float64 {
	if t.Busy == 0 {
		return 0
	}
	return max(0, 1-t.Blocked.Seconds()/t.Busy.Seconds())
}

// NewReducer returns a reducer of these buckets, which are the same on all ranks.
func NewReducer(g Group, buckets []Bucket) *Reducer {
	return &Reducer{group: g, buckets: buckets}
}

// Begin starts a step.
func (r *Reducer) Begin(ctx context.Context, step int64) {
	ctx, r.cancel = context.WithCancelCause(ctx)
	r.ready, r.done = make(chan finished, len(r.buckets)), make(chan error, 1)
	go func(ready <-chan finished, done chan<- error) { done <- r.run(ctx, step, ready) }(r.ready, r.done)
}

func (r *Reducer) run(ctx context.Context, step int64, ready <-chan finished) error {
	r.busy = 0
	for f := range ready {
		if f.err != nil {
			return f.err
		}
		if err := r.reduce(ctx, Op{Step: step, Name: fmt.Sprintf("gradient bucket %d", f.bucket)}, f); err != nil {
			return err
		}
	}
	if g, ok := r.group.(TensorGroup); ok {
		took, err := g.Finish(ctx, Op{Step: step, Name: "gradients"})
		r.busy += took
		return err
	}
	return nil
}

// reduce sums a bucket, or starts that on a device.
func (r *Reducer) reduce(ctx context.Context, op Op, f finished) error {
	b := r.buckets[f.bucket]
	switch {
	case b.Tensor != nil && b.Counts == nil:
		return r.group.(TensorGroup).AllReduceTensor(ctx, op, f.after, b.Tensor)
	case b.Tensor != nil:
		return r.group.(TensorGroup).ReduceScatterTensor(ctx, op, f.after, b.Tensor, b.Counts)
	}
	began := time.Now()
	defer func() { r.busy += time.Since(began) }()
	if b.Counts == nil {
		return r.group.AllReduce(ctx, op, b.Data)
	}
	return r.group.ReduceScatter(ctx, op, b.Data, b.Counts)
}

// Ready says that the gradients of a bucket are final: in the memory of a device, when
// that has done what was started before. Nobody may touch them before Wait has returned.
func (r *Reducer) Ready(bucket int) {
	f := finished{bucket: bucket}
	if g, ok := r.group.(TensorGroup); ok && r.buckets[bucket].Tensor != nil {
		f.after, f.err = g.Mark()
	}
	r.ready <- f
}

// Wait returns when all buckets of the step are reduced.
func (r *Reducer) Wait() error {
	began := time.Now()
	close(r.ready)
	err := <-r.done
	r.cancel(nil)
	r.times.Blocked += time.Since(began)
	r.times.Busy += r.busy
	r.ready = nil
	return err
}

// Abandon ends a step that has failed, and with it the generation, and waits for the
// reductions that are under way.
func (r *Reducer) Abandon(err error) {
	if r.ready != nil {
		r.cancel(err)
		close(r.ready)
		<-r.done
		r.ready = nil
	}
}

// Times returns what has been added up since the reducer was made.
func (r *Reducer) Times() Times { return r.times }

// Buckets cuts a run of tensors, given by their sizes, into stretches of whole
// tensors of at least limit elements, but for the last, and returns how many tensors
// each has. Backward finishes the tensors in this order.
func Buckets(sizes []int, limit int) []int {
	var counts []int
	tensors, elements := 0, 0
	for _, n := range sizes {
		tensors++
		if elements += n; elements >= limit {
			counts = append(counts, tensors)
			tensors, elements = 0, 0
		}
	}
	if tensors > 0 {
		counts = append(counts, tensors)
	}
	return counts
}

// Shares cuts a region of the flat buffer that starts at element from and is made of
// tensors of the given sizes into a part for each of n ranks: see Partition.
func Shares(from int, sizes []int, n int) []Span {
	cuts := Partition(sizes, n)
	spans := make([]Span, n)
	for i := range spans {
		spans[i] = Span{from + cuts[i], from + cuts[i+1]}
	}
	return spans
}

// Counts returns how many elements of the span lie in each of some shares.
func (s Span) Counts(shares []Span) []int {
	counts := make([]int, len(shares))
	for i, o := range shares {
		counts[i] = max(0, min(s.Hi, o.Hi)-max(s.Lo, o.Lo))
	}
	return counts
}
