package rpc

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"jambalaya/internal/pki"
	"jambalaya/parallel"
)

// member is a rank in one generation.
type member struct {
	node *Node
	id   parallel.Identity
	rank int
	conn [][lanes]*grpc.ClientConn // by rank; none to itself

	transits []transit // by rank that sends

	ctx    context.Context // of the streams to other ranks
	cancel context.CancelFunc

	once    sync.Once
	done    chan struct{}  // closed when the membership has ended
	err     error          // why; set before done is closed
	telling sync.WaitGroup // the other ranks about it
	closing sync.Once

	mu       sync.Mutex
	channels map[string]*channel
}

const (
	tellTimeout  = 2 * time.Second // to tell a rank about an abort
	flushTimeout = 5 * time.Second // for what was sent to be taken
)

// Join makes the process a rank of a generation; addresses are those of all ranks.
// It returns when every rank has joined. A membership of an earlier generation
// ends.
func (n *Node) Join(ctx context.Context, id parallel.Identity, rank int, addresses []string) (parallel.Transport, error) {
	if rank < 0 || rank >= len(addresses) {
		return nil, fmt.Errorf("join: %w: rank %d of %d addresses", parallel.ErrArgument, rank, len(addresses))
	}
	m := &member{
		node: n, id: id, rank: rank, conn: make([][lanes]*grpc.ClientConn, len(addresses)),
		transits: make([]transit, len(addresses)), done: make(chan struct{}), channels: map[string]*channel{},
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	for peer, address := range addresses {
		for lane := range lanes {
			if peer == rank {
				continue
			}
			conn, err := n.dial(address, pki.Worker, n.worker(id.Generation, peer))
			if err != nil {
				m.hangUp()
				return nil, fmt.Errorf("join: rank %d at %s: %w", peer, address, err)
			}
			m.conn[peer][lane] = conn
		}
	}
	if err := n.enter(m); err != nil {
		m.hangUp()
		return nil, fmt.Errorf("join: %w", err)
	}
	if err := m.meet(ctx, addresses); err != nil {
		m.fail(err)
		m.Close()
		return nil, fmt.Errorf("join generation %d as rank %d: %w", id.Generation, rank, err)
	}
	return m, nil
}

// enter makes m the node's member.
func (n *Node) enter(m *member) error {
	n.mu.Lock()
	old := n.member
	if old != nil && (old.id.Run != m.id.Run || old.id.Generation >= m.id.Generation) {
		n.mu.Unlock()
		return fmt.Errorf("%w: this process is in generation %d of run %x", parallel.ErrGeneration, old.id.Generation, old.id.Run)
	}
	n.member = m
	close(n.joined)
	n.joined = make(chan struct{})
	n.mu.Unlock()
	if old != nil {
		old.end(fmt.Errorf("%w: this rank has joined generation %d", parallel.ErrGeneration, m.id.Generation))
		old.hangUp()
	}
	return nil
}

// meet waits for all other ranks.
func (m *member) meet(ctx context.Context, addresses []string) error {
	errs := make([]error, len(addresses))
	var wait sync.WaitGroup
	for peer := range addresses {
		if peer == m.rank {
			continue
		}
		wait.Go(func() {
			if err := m.call(ctx, peer, methodHello, nil, grpc.WaitForReady(true)); err != nil {
				errs[peer] = fmt.Errorf("at %s: %w", addresses[peer], errorOf(peer, err))
			}
		})
	}
	wait.Wait()
	return errors.Join(errs...)
}

func (m *member) caller(to int) caller {
	return caller{id: m.id, size: len(m.conn), rank: m.rank, to: to}
}

// accepts says why a call is not for this member, or nil.
func (m *member) accepts(c caller) error {
	switch {
	case c.id.Run != m.id.Run:
		return refusal("this is run %x, not %x", m.id.Run, c.id.Run)
	case c.id.Generation != m.id.Generation:
		return refusal("it is in generation %d, rank %d in %d", m.id.Generation, c.rank, c.id.Generation)
	case c.to != m.rank:
		return status.Errorf(codes.InvalidArgument, "it is rank %d, not %d; compare the lists of addresses", m.rank, c.to)
	case c.size != len(m.conn):
		return status.Errorf(codes.InvalidArgument, "the world has %d ranks here, %d there", len(m.conn), c.size)
	case c.rank >= c.size || c.rank == m.rank || c.lane >= lanes:
		return status.Errorf(codes.InvalidArgument, "rank %d, lane %d", c.rank, c.lane)
	}
	return nil
}

// call runs a unary method on a rank.
func (m *member) call(ctx context.Context, to int, method string, payload *parallel.Buffer, options ...grpc.CallOption) error {
	in := &parallel.Message{Header: parallel.Header{Run: m.id.Run, Generation: m.id.Generation}, Payload: payload}
	return m.conn[to][0].Invoke(m.caller(to).outgoing(ctx), method, in, &received{}, options...)
}

func (m *member) Rank() int                   { return m.rank }
func (m *member) Size() int                   { return len(m.conn) }
func (m *member) Identity() parallel.Identity { return m.id }

func (m *member) Abort(reason error) {
	m.fail(&parallel.AbortError{Rank: m.rank, Reason: reason.Error()})
}

// fail ends the membership and tells all ranks why.
func (m *member) fail(err error) {
	reason := err.Error()
	if aborted := (*parallel.AbortError)(nil); errors.As(err, &aborted) {
		reason = aborted.Reason
	}
	m.once.Do(func() {
		m.err = err
		m.telling.Go(func() { m.tell(reason) })
		close(m.done)
	})
}

// end ends the membership.
func (m *member) end(err error) {
	m.once.Do(func() {
		m.err = err
		close(m.done)
	})
}

// tell sends the reason of an abort to all ranks. One that cannot be told finds out
// by its broken streams.
func (m *member) tell(reason string) {
	ctx, cancel := context.WithTimeout(context.Background(), tellTimeout)
	defer cancel()
	var told sync.WaitGroup
	for peer := range m.conn {
		if peer == m.rank {
			continue
		}
		told.Go(func() {
			payload := parallel.NewBuffer(min(len(reason), maxReason))
			copy(payload.Data, reason)
			_ = m.call(ctx, peer, methodAbort, payload)
		})
	}
	told.Wait()
}

// lost is called when a stream with a rank broke: it asks the rank why.
func (m *member) lost(peer int, err error) {
	select {
	case <-m.done:
		return
	default:
	}
	ctx, cancel := context.WithTimeout(m.ctx, tellTimeout)
	defer cancel()
	if asked := m.call(ctx, peer, methodHello, nil); status.Code(asked) == codes.FailedPrecondition {
		m.end(errorOf(peer, asked))
		return
	}
	m.fail(errorOf(peer, err))
}

// Close flushes what was sent, unless the membership has failed, and hangs up.
func (m *member) Close() error {
	m.closing.Do(m.close)
	return nil
}

func (m *member) close() {
	flushed := make(chan struct{})
	go func() {
		defer close(flushed)
		m.flush()
	}()
	timer := time.NewTimer(flushTimeout)
	defer timer.Stop()
	select {
	case <-flushed:
	case <-m.done:
	case <-timer.C:
	}
	m.end(parallel.ErrClosed)
	m.hangUp()
	<-flushed
}

// hangUp closes the connections once the other ranks have been told of a failure.
// The membership has ended.
func (m *member) hangUp() {
	m.telling.Wait()
	m.cancel()
	for _, conns := range m.conn {
		for _, conn := range conns {
			if conn != nil {
				conn.Close() // fails only if closed already
			}
		}
	}
}
