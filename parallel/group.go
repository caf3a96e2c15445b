package parallel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"jambalaya/internal/engine"
)

// Op names an operation in messages to the user. All ranks of a group give the
// same.
type Op struct {
	Step int64
	Name string
}

// Group is the hold of one rank on a set of ranks that compute together. All of
// them call the same operations in the same order, one at a time; operations of
// different groups may run at the same time.
//
// Where an operation takes counts, all ranks pass the same: counts[i] is the
// length of rank i's part, and parts follow each other. A count may be 0.
//
// An operation that fails on one rank fails on all, now and from then on: the
// group belongs to a generation that is over.
type Group interface {
	// Rank is the caller's place in the group, Size the number of its ranks.
	Rank() int
	Size() int
	// AllReduce replaces x by the sum of all ranks' x. The sum of an element is
	// taken in an order that only Size and len(x) decide, with GroupOptions.Tree only
	// Size, and is bitwise the same on every rank.
	AllReduce(ctx context.Context, op Op, x []float32) error
	// ReduceScatter replaces the rank's own part of x by the sum of all ranks', and
	// leaves the rest of x as it was. AllGather of the result, with the same counts,
	// gives the bits that AllReduce gives for parts that differ by one at most.
	ReduceScatter(ctx context.Context, op Op, x []float32, counts []int) error
	// AllGather fills x, of which the rank's own part is given, with the parts of
	// all ranks. Counts are bytes. See the function AllGather for other types.
	AllGather(ctx context.Context, op Op, x []byte, counts []int) error
	// AllToAll sends part i of send to rank i and receives part i of recv from rank
	// i. Counts are bytes, and differ between ranks: what i sends to j is what j
	// expects of i. See the function AllToAll for other types.
	AllToAll(ctx context.Context, op Op, send []byte, sendCounts []int, recv []byte, recvCounts []int) error
	// Broadcast replaces x by that of the root.
	Broadcast(ctx context.Context, op Op, root int, x []byte) error
	// Barrier returns when all ranks have called it.
	Barrier(ctx context.Context, op Op) error
}

// TensorGroup is a Group that reaches the memory of devices. Its operations are started
// only: they run one after the other, beside the plans of the device, and Finish waits
// for them. Tensors are float32 or bfloat16 where they are summed, and are summed as such.
type TensorGroup interface {
	Group
	// Mark is the point that plans on the device have been started up to. It may be
	// called while operations are started; it is good until Finish.
	Mark() (Mark, error)
	// AllReduceTensor, ReduceScatterTensor and AllGatherTensor are the operations of
	// Group on a tensor, once the device is past a mark; counts are elements.
	AllReduceTensor(ctx context.Context, op Op, after Mark, t *engine.Tensor) error
	ReduceScatterTensor(ctx context.Context, op Op, after Mark, t *engine.Tensor, counts []int) error
	AllGatherTensor(ctx context.Context, op Op, after Mark, t *engine.Tensor, counts []int) error
	// ExchangeTensors sends pieces and receives others. What a rank sends to another is
	// what that one receives from it, piece by piece.
	ExchangeTensors(ctx context.Context, op Op, after Mark, send, recv []Piece) error
	// Lead makes plans that are started from now on wait for the operations so far.
	Lead() error
	// Finish returns when the device has done all operations so far, and how long they
	// took there since the last Finish.
	Finish(ctx context.Context, op Op) (time.Duration, error)
}

// Mark is a point in the work of a device. The zero value is the moment of its use.
type Mark int

// Piece is a tensor on its way to a rank of a group, or from it.
type Piece struct {
	Rank   int
	Tensor *engine.Tensor
}

// GroupOptions are the same on all ranks of a group.
type GroupOptions struct {
	ChunkBytes int           // of a message, a multiple of 4; 0: MaxChunkBytes
	Timeout    time.Duration // longest wait for one message; 0: 5 minutes
	Tree       bool          // sums in one tree over the ranks, not round the ring: see pairs.go
	Waits      *Waits        // is told what goes on; nil: nobody is
}

// depth is how many chunks a rank sends ahead of those it has received. It covers
// the time that a message is under way.
const depth = 8

// communicator runs collectives as messages over a channel.
type communicator struct {
	transport Transport
	channel   Channel
	name      string
	ranks     []int // of the world
	rank      int
	options   GroupOptions
	next      uint32 // number of the next operation
	busy      atomic.Bool
	current   atomic.Pointer[current] // operation, if there are Waits
	peer      atomic.Int64            // rank that it waits for, and one; 0: none
}

// NewGroup returns the calling rank's hold on the group of some ranks of the
// world. A rank is in one group of a name.
func NewGroup(t Transport, name string, ranks []int, options GroupOptions) (Group, error) {
	if options.ChunkBytes == 0 {
		options.ChunkBytes = MaxChunkBytes
	}
	if options.Timeout == 0 {
		options.Timeout = 5 * time.Minute
	}
	if c := options.ChunkBytes; c < 4 || c > MaxChunkBytes || c%4 != 0 {
		return nil, argument("group %s: chunks of %d bytes are not a multiple of 4 up to %d", name, c, MaxChunkBytes)
	}
	for i, r := range ranks {
		if r < 0 || r >= t.Size() || slices.Contains(ranks[:i], r) {
			return nil, argument("group %s: ranks %v are not different ones of a world of %d", name, ranks, t.Size())
		}
	}
	rank := slices.Index(ranks, t.Rank())
	if rank < 0 {
		return nil, argument("group %s: rank %d is not one of %v", name, t.Rank(), ranks)
	}
	g := &communicator{
		transport: t, channel: t.Channel(name), name: name,
		ranks: slices.Clone(ranks), rank: rank, options: options,
	}
	options.Waits.add(g)
	return g, nil
}

func (g *communicator) Rank() int { return g.rank }
func (g *communicator) Size() int { return len(g.ranks) }

// neighbour returns the place of the rank d places further on in the ring.
func (g *communicator) neighbour(d int) int {
	return (g.rank + d + len(g.ranks)) % len(g.ranks)
}

// operation is one collective while it runs.
type operation struct {
	*communicator
	ctx    context.Context
	header Header
}

// run numbers an operation, runs it, and on failure gives the generation up.
func (g *communicator) run(ctx context.Context, op Op, kind Kind, body func(*operation) error) error {
	var err error
	if g.busy.CompareAndSwap(false, true) {
		id := g.transport.Identity()
		o := &operation{communicator: g, ctx: ctx, header: Header{
			Run: id.Run, Generation: id.Generation, Step: op.Step, Operation: g.next, Kind: kind,
		}}
		g.next++
		if g.options.Waits != nil {
			g.current.Store(&current{kind, op, time.Now()})
			defer g.current.Store(nil)
		}
		if err = context.Cause(ctx); err == nil {
			err = body(o)
		}
		g.busy.Store(false)
	} else {
		err = argument("another operation of the group is still running")
	}
	if err == nil {
		return nil
	}
	err = &OpError{Kind: kind, Group: g.name, Name: op.Name, Step: op.Step, Rank: g.transport.Rank(), Err: err}
	g.transport.Abort(err)
	return err
}

// send gives a chunk of a part of total bytes to a rank of the group.
func (o *operation) send(to int, chunk uint32, total int, payload *Buffer) error {
	m := Message{Header: o.header, Payload: payload}
	m.Chunk, m.Total = chunk, uint64(total)
	ctx, cancel := context.WithTimeoutCause(o.ctx, o.options.Timeout, o.silent(to, "took no message"))
	defer cancel()
	o.peer.Store(int64(o.ranks[to]) + 1)
	defer o.peer.Store(0)
	if err := o.channel.Send(ctx, o.ranks[to], m); err != nil {
		return because(ctx, o.ranks[to], err)
	}
	return nil
}

// recv waits for a chunk of a part of total bytes, of which it must hold want.
func (o *operation) recv(from int, chunk uint32, total, want int) (*Buffer, error) {
	ctx, cancel := context.WithTimeoutCause(o.ctx, o.options.Timeout, o.silent(from, "sent nothing"))
	defer cancel()
	o.peer.Store(int64(o.ranks[from]) + 1)
	defer o.peer.Store(0)
	m, err := o.channel.Recv(ctx, o.ranks[from])
	if err != nil {
		return nil, because(ctx, o.ranks[from], err)
	}
	if err := o.check(m, chunk, total, want); err != nil {
		m.Payload.Free()
		return nil, fmt.Errorf("message of rank %d: %w", o.ranks[from], err)
	}
	return m.Payload, nil
}

func (o *operation) silent(rank int, what string) error {
	return fmt.Errorf("%w: rank %d %s for %v", ErrTimeout, o.ranks[rank], what, o.options.Timeout)
}

// because replaces the error of a context by its cause, and says which rank was
// waited for.
func because(ctx context.Context, rank int, err error) error {
	cause := context.Cause(ctx)
	switch {
	case cause == nil || !errors.Is(err, ctx.Err()):
		return err
	case errors.Is(cause, ErrTimeout):
		return cause
	}
	return fmt.Errorf("waiting for rank %d: %w", rank, cause)
}

// check compares a message with the one that must come next.
func (o *operation) check(m Message, chunk uint32, total, want int) error {
	h := o.header
	switch {
	case m.Run != h.Run:
		return fmt.Errorf("%w: of run %x, not %x", ErrGeneration, m.Run, h.Run)
	case m.Generation != h.Generation:
		return fmt.Errorf("%w: %d, not %d", ErrGeneration, m.Generation, h.Generation)
	case m.Kind != h.Kind || m.Operation != h.Operation || m.Step != h.Step:
		return fmt.Errorf("%w: it is in %s %d of step %d, this rank in %s %d of step %d",
			ErrMismatch, m.Kind, m.Operation, m.Step, h.Kind, h.Operation, h.Step)
	case m.Total != uint64(total):
		return fmt.Errorf("%w: it has %d bytes for this rank, which expects %d", ErrMismatch, m.Total, total)
	case m.Chunk != chunk || len(m.Bytes()) != want:
		return fmt.Errorf("%w: chunk %d of %d bytes instead of chunk %d of %d; are the groups' options the same?",
			ErrMismatch, m.Chunk, len(m.Bytes()), chunk, want)
	}
	return nil
}

// chunks returns how many messages carry n bytes: at least one, so that ranks which
// disagree about a part that is empty find out.
func (g *communicator) chunks(n int) int {
	return max(1, (n+g.options.ChunkBytes-1)/g.options.ChunkBytes)
}

// chunk returns chunk i of a part, which may be empty.
func chunkOf(part []byte, i, size int) []byte {
	return part[min(i*size, len(part)):min((i+1)*size, len(part))]
}

// checkCounts compares counts with the group and the data they cut.
func (g *communicator) checkCounts(what string, n int, counts []int) error {
	if len(counts) != len(g.ranks) {
		return argument("%s: %d counts for %d ranks", what, len(counts), len(g.ranks))
	}
	sum := 0
	for i, c := range counts {
		if c < 0 {
			return argument("%s: count %d of rank %d", what, c, i)
		}
		sum += c
	}
	if sum != n {
		return argument("%s: counts add up to %d, but there are %d", what, sum, n)
	}
	return nil
}
