package nccl

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
	"unsafe"

	"jambalaya/internal/backend/cuda"
	"jambalaya/parallel"
)

// Group is a parallel.TensorGroup whose data move between GPUs. Its methods may not run at
// the same time.
type Group struct {
	lib       *functions
	backend   *cuda.Backend
	queue     *cuda.Queue
	transport parallel.Transport
	name      string
	ranks     []int
	rank      int
	timeout   time.Duration
	room      room

	comm  uintptr
	lost  context.Context // done when the generation is over
	leave context.CancelCauseFunc
	watch sync.WaitGroup
}

var _ parallel.TensorGroup = (*Group)(nil)

// NewGroup returns the calling rank's hold on the group of some ranks of the
// transport's world; all of them call it. Options are as for parallel.NewGroup; the
// size of chunks is NCCL's own affair. The error wraps cuda.ErrUnavailable where
// there is no NCCL.
func NewGroup(ctx context.Context, b *cuda.Backend, t parallel.Transport, name string, ranks []int, options parallel.GroupOptions) (*Group, error) {
	lib, err := load()
	if err != nil {
		return nil, err
	}
	host, err := parallel.NewGroup(t, name+"/nccl", ranks, options)
	if err != nil {
		return nil, err
	}
	g := &Group{lib: lib, backend: b, transport: t, name: name, ranks: slices.Clone(ranks), rank: host.Rank(), timeout: options.Timeout}
	if g.timeout == 0 {
		g.timeout = 5 * time.Minute
	}
	g.room.backend = b
	if g.queue, err = b.NewQueue(); err != nil {
		return nil, err
	}
	g.lost, g.leave = context.WithCancelCause(context.Background())
	g.watchPeer()
	if err := g.connect(ctx, host); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// watchPeer waits for a message that the next rank never sends: what ends the wait
// is the end of the generation.
func (g *Group) watchPeer() {
	if g.Size() == 1 {
		return
	}
	channel, next := g.transport.Channel(g.name+"/watch"), g.ranks[(g.rank+1)%g.Size()]
	g.watch.Go(func() {
		_, err := channel.Recv(g.lost, next)
		g.leave(err)
	})
}

// connect makes the communicator: rank 0 says how to find it.
func (g *Group) connect(ctx context.Context, host parallel.Group) error {
	op := parallel.Op{Name: "communicator"}
	id := new(uniqueID)
	if g.rank == 0 {
		if err := g.lib.check("draw an id", cuda.Call(g.lib.uniqueID, uintptr(unsafe.Pointer(id)))); err != nil {
			return g.fail(op, 0, err)
		}
	}
	if err := host.Broadcast(ctx, op, 0, id[:]); err != nil {
		return err
	}
	_, leave := g.queue.Enter()
	defer leave()
	result := cuda.Call(g.lib.initRank, uintptr(unsafe.Pointer(&g.comm)), uintptr(g.Size()), uintptr(g.rank), 1,
		uintptr(unsafe.Pointer(id)), uintptr(unsafe.Pointer(nonBlocking())))
	err := g.lib.check("make a communicator", result)
	if err == nil {
		err = g.settle(ctx)
	}
	if err != nil {
		return g.fail(op, 0, err)
	}
	return nil
}

// Rank implements parallel.Group.
func (g *Group) Rank() int { return g.rank }

// Size implements parallel.Group.
func (g *Group) Size() int { return len(g.ranks) }

// Close gives the communicator back; the ranks do so together. After a failure the
// communicator is gone already. Closing again does nothing.
func (g *Group) Close() error {
	if g.queue == nil {
		return nil
	}
	var err error
	_, leave := g.queue.Enter()
	defer leave()
	if g.comm != 0 {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err = g.lib.check("finish", cuda.Call(g.lib.finalize, g.comm)); err == nil {
			err = g.settle(ctx)
		}
		if err == nil {
			err = g.lib.check("give the communicator back", cuda.Call(g.lib.destroy, g.comm))
		} else {
			cuda.Call(g.lib.abort, g.comm)
		}
		g.comm = 0
	}
	g.leave(parallel.ErrClosed)
	g.watch.Wait()
	g.room.close()
	g.queue.Close()
	g.queue = nil
	return err
}

// settle waits until NCCL has done, on the host, what the last call started.
func (g *Group) settle(ctx context.Context) error {
	return g.await(ctx, func() (bool, error) {
		var state int32
		if err := g.lib.check("ask for the state", cuda.Call(g.lib.asyncError, g.comm, uintptr(unsafe.Pointer(&state)))); err != nil {
			return false, err
		}
		return state == success, g.lib.check("work in the background", state)
	})
}

// finish waits until the device has done all that is on the queue, with an eye on
// NCCL's own errors.
func (g *Group) finish(ctx context.Context) error {
	return g.await(ctx, func() (bool, error) {
		if done, err := g.queue.Done(); done || err != nil {
			return done, err
		}
		var state int32
		cuda.Call(g.lib.asyncError, g.comm, uintptr(unsafe.Pointer(&state)))
		return false, g.lib.check("work in the background", state)
	})
}

// await asks until the answer is yes, an error, or the end of the context or of the
// generation. There is no event to wait for: NCCL only answers questions.
func (g *Group) await(ctx context.Context, done func() (bool, error)) error {
	deadline := time.Now().Add(g.timeout)
	for pause := time.Microsecond; ; pause = min(2*pause, time.Millisecond) {
		switch yes, err := done(); {
		case err != nil:
			return err
		case yes:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case g.lost.Err() != nil:
			return context.Cause(g.lost)
		case time.Now().After(deadline):
			return fmt.Errorf("%w: NCCL has not finished for %v", parallel.ErrTimeout, g.timeout)
		}
		time.Sleep(pause)
	}
}

// run puts an operation on the queue, waits for it, and on failure gives the
// generation up. body gets the stream.
func (g *Group) run(ctx context.Context, op parallel.Op, kind parallel.Kind, body func(stream uintptr) error) error {
	if g.comm == 0 {
		return g.fail(op, kind, parallel.ErrAborted) // an operation before this one failed
	}
	stream, leave := g.queue.Enter()
	defer leave()
	err := ctx.Err()
	if err == nil {
		err = g.queue.Follow()
	}
	if err == nil {
		err = body(stream)
	}
	if err == nil {
		err = g.settle(ctx)
	}
	if err == nil {
		err = g.finish(ctx)
	}
	if err != nil {
		return g.fail(op, kind, err)
	}
	return nil
}

// fail ends the communicator and the generation.
func (g *Group) fail(op parallel.Op, kind parallel.Kind, err error) error {
	err = &parallel.OpError{Kind: kind, Group: g.name, Name: op.Name, Step: op.Step, Rank: g.transport.Rank(), Err: err}
	if g.comm != 0 {
		_, leave := g.queue.Enter()
		cuda.Call(g.lib.abort, g.comm)
		leave()
		g.comm = 0
	}
	g.leave(err)
	g.transport.Abort(err)
	return err
}

// together makes one operation of several calls.
func (g *Group) together(calls func() error) error {
	if err := g.lib.check("start a group of calls", cuda.Call(g.lib.groupStart)); err != nil {
		return err
	}
	err := calls()
	if end := g.lib.check("end a group of calls", cuda.Call(g.lib.groupEnd)); err == nil {
		err = end
	}
	return err
}
