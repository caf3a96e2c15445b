package nccl

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"time"
	"unsafe"

	"jambalaya/internal/backend/cuda"
	"jambalaya/parallel"
)

// Group is a parallel.TensorGroup whose data move between GPUs. Its methods may not run at
// the same time, but for Mark.
type Group struct {
	*Member
	queue  *cuda.Queue
	name   string
	ranks  []int
	rank   int // in the group
	room   room
	events events

	comm     uintptr            // 0: gone; Member.mu guards it
	watch    sync.WaitGroup     // the peer
	lookAway context.CancelFunc // ends that
}

var _ parallel.TensorGroup = (*Group)(nil)

// NewGroup returns the rank's hold on the group of some ranks of the transport's world;
// all of them call it.
func (m *Member) NewGroup(ctx context.Context, name string, ranks []int) (*Group, error) {
	host, err := parallel.NewGroup(m.transport, name+"/nccl", ranks, m.options)
	if err != nil {
		return nil, err
	}
	g := &Group{Member: m, name: name, ranks: slices.Clone(ranks), rank: host.Rank()}
	g.room.backend = m.backend
	if g.queue, err = m.backend.NewQueue(); err != nil {
		return nil, err
	}
	g.events.queue = g.queue
	m.add(g)
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
	ctx, cancel := context.WithCancel(g.lost)
	g.lookAway = cancel
	if g.Size() == 1 {
		return
	}
	channel, next := g.transport.Channel(g.name+"/watch"), g.ranks[(g.rank+1)%g.Size()]
	g.watch.Go(func() {
		if _, err := channel.Recv(ctx, next); ctx.Err() == nil {
			g.leave(err)
		}
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
	err := g.make(id)
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

// Close gives the communicator back; the ranks do so together. After a failure it is gone
// already. Closing again does nothing.
func (g *Group) Close() error {
	if g.queue == nil {
		return nil
	}
	_, leave := g.queue.Enter()
	defer leave()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := g.call("finish", g.lib.finalize)
	if err == nil {
		err = g.settle(ctx)
	}
	if err == nil {
		err = g.destroy()
	}
	if errors.Is(err, parallel.ErrAborted) {
		err = nil
	}
	if err != nil {
		g.leave(err)
		g.abort()
	}
	g.remove(g)
	g.lookAway()
	g.watch.Wait()
	g.room.close()
	g.events.close()
	g.queue.Close()
	g.queue = nil
	return err
}

// settle waits until NCCL has done, on the host, what the last call started.
func (g *Group) settle(ctx context.Context) error {
	return g.await(ctx, func() (bool, error) {
		var state int32
		if err := g.call("ask for the state", g.lib.asyncError, uintptr(unsafe.Pointer(&state))); err != nil {
			return false, err
		}
		return state == success, g.lib.check("work in the background", state)
	})
}

// drain waits until the device has done all that is on the queue, with an eye on
// NCCL's own errors.
func (g *Group) drain(ctx context.Context) error {
	return g.await(ctx, func() (bool, error) {
		if done, err := g.queue.Done(); done || err != nil {
			return done, err
		}
		var state int32
		if err := g.call("ask for the state", g.lib.asyncError, uintptr(unsafe.Pointer(&state))); err != nil {
			return false, err
		}
		return false, g.lib.check("work in the background", state)
	})
}

// eager is for how long await does nothing but ask. To sleep takes up to a millisecond,
// however short it is meant to be, in which an operation moves hundreds of megabytes.
const eager = 20 * time.Millisecond

// await asks until the answer is yes, an error, or the end of the context or of the
// generation. There is no event to wait for: NCCL only answers questions.
func (g *Group) await(ctx context.Context, done func() (bool, error)) error {
	began := time.Now()
	for try := 1; ; try++ {
		switch yes, err := done(); {
		case err != nil:
			return err
		case yes:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case g.lost.Err() != nil:
			return context.Cause(g.lost)
		}
		switch waited := time.Since(began); {
		case waited > g.options.Timeout:
			return fmt.Errorf("%w: NCCL has not finished for %v", parallel.ErrTimeout, g.options.Timeout)
		case waited > eager:
			time.Sleep(min(waited/64, time.Millisecond))
		case try%16 == 0:
			runtime.Gosched()
		}
	}
}

// start puts an operation on the queue, to run once the device is past a mark, and on
// failure gives the generation up. The calls of body are one operation.
func (g *Group) start(ctx context.Context, op parallel.Op, kind parallel.Kind, after parallel.Mark, body func(comm, stream uintptr) error) error {
	stream, leave := g.queue.Enter()
	defer leave()
	err := context.Cause(ctx)
	if err == nil {
		err = g.events.follow(after)
	}
	var end *cuda.Event
	if err == nil {
		end, err = g.events.begin()
	}
	if err == nil {
		err = g.together(func(comm uintptr) error { return body(comm, stream) })
	}
	if err == nil {
		err = g.settle(ctx) // before that it may not be on the stream
	}
	if err == nil {
		err = g.queue.Record(end)
	}
	if err != nil {
		return g.fail(op, kind, err)
	}
	return nil
}

// finish waits for the operations that were started.
func (g *Group) finish(ctx context.Context, op parallel.Op, kind parallel.Kind) error {
	_, leave := g.queue.Enter()
	defer leave()
	err := g.drain(ctx)
	if err == nil {
		err = g.events.tally()
	}
	if err != nil {
		return g.fail(op, kind, err)
	}
	return nil
}

// fail ends the rank's communicators and the generation.
func (g *Group) fail(op parallel.Op, kind parallel.Kind, err error) error {
	g.abort()
	err = &parallel.OpError{Kind: kind, Group: g.name, Name: op.Name, Step: op.Step, Rank: g.transport.Rank(), Err: g.because(err)}
	g.leave(err)
	g.transport.Abort(err)
	return err
}

// because gives the transport time to say that a rank is gone where NCCL, or the device,
// has noticed first: they cannot say what it is that they noticed.
func (g *Group) because(err error) error {
	var failure *Error
	if g.Size() == 1 || !errors.As(err, &failure) && !errors.Is(err, cuda.ErrDevice) {
		return err
	}
	select {
	case <-g.lost.Done():
		return fmt.Errorf("%w; %w", context.Cause(g.lost), err)
	case <-time.After(2 * time.Second):
		return err
	}
}
