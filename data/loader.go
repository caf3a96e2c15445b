package data

import (
	"context"
	"fmt"
	"sync"
)

// Batch is some samples, one after the other: row r, position i is element
// r·L + i, with L = SequenceLength.
type Batch struct {
	Inputs  []int32 // token ids
	Targets []int32 // the ids that follow; Ignored where nothing is learnt
	Docs    []int32 // number of the position's document within its row, from 0
	First   int64   // number of the first sample
}

// Part is part i of n equal parts of the batch, in the same memory.
func (b *Batch) Part(i, n int) Batch {
	size := len(b.Inputs) / n
	from, to := i*size, (i+1)*size
	return Batch{Inputs: b.Inputs[from:to], Targets: b.Targets[from:to], Docs: b.Docs[from:to]}
}

func newBatch(size int) Batch {
	buffer := make([]int32, 3*size)
	return Batch{
		Inputs: buffer[:size:size], Targets: buffer[size : 2*size : 2*size], Docs: buffer[2*size:],
	}
}

// LoaderOptions say which samples a loader yields: batch i has the samples
// Start + i·Stride to Start + i·Stride + Rows - 1. So rank r of n, with B rows each,
// starts at cursor + r·B and has the stride n·B.
type LoaderOptions struct {
	Rows     int
	Start    int64
	Stride   int64 // 0 is Rows
	Prefetch int   // batches made ready in advance; 0 is 1
}

// Loader makes batches ready in the background.
type Loader struct {
	index *Index
	opts  LoaderOptions
	size  int // elements of a slice of a batch

	free  chan Batch
	ready chan Batch
	stop  chan struct{}
	once  sync.Once
	done  sync.WaitGroup
}

// NewLoader starts a loader. It must be closed before its corpus is.
func NewLoader(index *Index, opts LoaderOptions) (*Loader, error) {
	opts.Prefetch = max(opts.Prefetch, 1)
	if opts.Stride == 0 {
		opts.Stride = int64(opts.Rows)
	}
	if opts.Rows < 1 || opts.Start < 0 || opts.Stride < int64(opts.Rows) {
		return nil, fmt.Errorf("data: no loader has %d rows from sample %d with stride %d", opts.Rows, opts.Start, opts.Stride)
	}
	l := &Loader{
		index: index, opts: opts, size: opts.Rows * index.length,
		free: make(chan Batch, opts.Prefetch+1), ready: make(chan Batch, opts.Prefetch), stop: make(chan struct{}),
	}
	for range opts.Prefetch {
		l.free <- newBatch(l.size)
	}
	l.done.Add(1)
	go l.run()
	return l, nil
}

func (l *Loader) run() {
	defer l.done.Done()
	for k := l.opts.Start; ; k += l.opts.Stride {
		select {
		case <-l.stop:
			return
		case b := <-l.free:
			b.First = k
			n := l.index.length
			for r := range l.opts.Rows {
				at := r * n
				l.index.Sample(k+int64(r), b.Inputs[at:at+n], b.Targets[at:at+n], b.Docs[at:at+n])
			}
			l.ready <- b // has room for all batches there are
		}
	}
}

// Next sets b to the next batch. What b held before is used again for a later one:
// keep one Batch for all calls, and nothing of it from one call to the next; then
// nothing is allocated. It returns the context's error when that ends first, and
// ErrClosed after Close.
func (l *Loader) Next(ctx context.Context, b *Batch) error {
	select {
	case <-l.stop:
		return ErrClosed
	default:
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-l.stop:
		return ErrClosed
	case next := <-l.ready:
		old := *b
		*b = next
		if len(old.Inputs) != l.size { // the first call brings none to use again
			old = newBatch(l.size)
		}
		l.free <- old
		return nil
	}
}

// Close ends the background work and waits for it.
func (l *Loader) Close() {
	l.once.Do(func() { close(l.stop) })
	l.done.Wait()
}
