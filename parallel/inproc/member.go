package inproc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"jambalaya/parallel"
)

// member is a rank in one generation.
type member struct {
	network *Network
	id      parallel.Identity
	rank    int

	once sync.Once
	done chan struct{} // closed when the membership has ended
	err  error         // why; set before done is closed

	mu      sync.Mutex
	inboxes map[inboxKey]chan delivery
}

type inboxKey struct {
	from    int
	channel string
}

type delivery struct {
	message parallel.Message
	arrives time.Time
}

func (m *member) Rank() int                   { return m.rank }
func (m *member) Size() int                   { return m.network.size }
func (m *member) Identity() parallel.Identity { return m.id }

func (m *member) Channel(name string) parallel.Channel { return &channel{m, name} }

func (m *member) Abort(reason error) {
	m.network.abort(m.id, &parallel.AbortError{Rank: m.rank, Reason: reason.Error()})
}

// Close ends the membership. What was sent can still be received.
func (m *member) Close() error {
	m.end(parallel.ErrClosed)
	return nil
}

func (m *member) end(err error) {
	m.once.Do(func() {
		m.err = err
		close(m.done)
	})
}

func (m *member) inbox(key inboxKey) chan delivery {
	m.mu.Lock()
	defer m.mu.Unlock()
	in, ok := m.inboxes[key]
	if !ok {
		in = make(chan delivery, parallel.MinWindow)
		m.inboxes[key] = in
	}
	return in
}

// channel is a member's end of a named channel.
type channel struct {
	*member
	name string
}

func (c *channel) Send(ctx context.Context, to int, message parallel.Message) error {
	peer, err := c.network.find(ctx, c.member, to)
	if err != nil {
		return err
	}
	bytes := parallel.HeaderBytes + len(message.Bytes())
	d := delivery{message, c.network.arrival(c.rank, to, bytes)}
	select {
	case <-c.done:
		return c.err
	default:
	}
	select {
	case peer.inbox(inboxKey{c.rank, c.name}) <- d:
		return nil
	case <-c.done:
		return c.err
	case <-peer.done:
		return c.left(peer)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *channel) Recv(ctx context.Context, from int) (parallel.Message, error) {
	peer, err := c.network.find(ctx, c.member, from)
	if err != nil {
		return parallel.Message{}, err
	}
	in := c.inbox(inboxKey{from, c.name})
	select {
	case d := <-in:
		return c.await(ctx, d)
	case <-c.done:
		return parallel.Message{}, c.err
	case <-ctx.Done():
		return parallel.Message{}, ctx.Err()
	case <-peer.done:
	}
	select {
	case d := <-in: // sent before the peer left
		return c.await(ctx, d)
	default:
		return parallel.Message{}, c.left(peer)
	}
}

// await returns a message when it has arrived.
func (c *channel) await(ctx context.Context, d delivery) (parallel.Message, error) {
	wait := time.Until(d.arrives)
	if wait <= 0 {
		return d.message, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return d.message, nil
	case <-c.done:
		return parallel.Message{}, c.err
	case <-ctx.Done():
		return parallel.Message{}, ctx.Err()
	}
}

// left says why a peer cannot be reached: it was aborted, and this rank with it, or
// it has closed its transport.
func (c *channel) left(peer *member) error {
	select {
	case <-c.done:
		return c.err
	default:
		return fmt.Errorf("%w: rank %d: %w", parallel.ErrLost, peer.rank, peer.err)
	}
}
