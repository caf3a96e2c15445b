package inproc

import (
	"context"
	"fmt"
	"sync"
	"time"

	"jambalaya/parallel"
)

// Link is the way from one rank to another. The zero value delivers at once.
type Link struct {
	BytesPerSecond float64 // 0: unlimited
	Latency        time.Duration
}

// Network connects the ranks of a world.
type Network struct {
	size int
	link func(from, to int) Link

	mu      sync.Mutex
	members []*member     // by rank: the latest to join; nil before
	joined  chan struct{} // closed, and replaced, when a rank joins
	free    []time.Time   // by from*size+to: when the link has sent all it was given
}

// New returns the network of a world of size ranks. link may be nil: no delays.
func New(size int, link func(from, to int) Link) *Network {
	if link == nil {
		link = func(from, to int) Link { return Link{} }
	}
	return &Network{
		size: size, link: link, members: make([]*member, size),
		joined: make(chan struct{}), free: make([]time.Time, size*size),
	}
}

// Join returns the transport of a rank in a generation.
func (n *Network) Join(id parallel.Identity, rank int) (parallel.Transport, error) {
	if rank < 0 || rank >= n.size {
		return nil, fmt.Errorf("join: %w: rank %d of a world of %d", parallel.ErrArgument, rank, n.size)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	old := n.members[rank]
	if old != nil && (old.id.Run != id.Run || old.id.Generation >= id.Generation) {
		return nil, fmt.Errorf("join: %w: rank %d is in generation %d of run %x", parallel.ErrGeneration, rank, old.id.Generation, old.id.Run)
	}
	m := &member{network: n, id: id, rank: rank, done: make(chan struct{}), inboxes: map[inboxKey]chan delivery{}}
	n.members[rank] = m
	close(n.joined)
	n.joined = make(chan struct{})
	if old != nil {
		old.end(fmt.Errorf("%w: this rank has joined generation %d", parallel.ErrGeneration, id.Generation))
	}
	return m, nil
}

// find returns the member that is a rank in the caller's generation, and waits for
// it to join.
func (n *Network) find(ctx context.Context, caller *member, rank int) (*member, error) {
	if rank < 0 || rank >= n.size {
		return nil, fmt.Errorf("%w: rank %d of a world of %d", parallel.ErrArgument, rank, n.size)
	}
	for {
		n.mu.Lock()
		m, joined := n.members[rank], n.joined
		n.mu.Unlock()
		switch {
		case m == nil || m.id.Generation < caller.id.Generation:
		case m.id == caller.id:
			return m, nil
		default:
			return nil, fmt.Errorf("%w: rank %d is in %d, this rank in %d", parallel.ErrGeneration, rank, m.id.Generation, caller.id.Generation)
		}
		select {
		case <-joined:
		case <-caller.done:
			return nil, caller.err
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// arrival books the link for a message and returns when it is there.
func (n *Network) arrival(from, to, bytes int) time.Time {
	link := n.link(from, to)
	if link == (Link{}) {
		return time.Time{}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	free := &n.free[from*n.size+to]
	if now := time.Now(); free.Before(now) {
		*free = now
	}
	if link.BytesPerSecond > 0 {
		*free = free.Add(time.Duration(float64(bytes) / link.BytesPerSecond * 1e9))
	}
	return free.Add(link.Latency)
}

// abort ends all members of a generation.
func (n *Network) abort(id parallel.Identity, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.members {
		if m != nil && m.id == id {
			m.end(err)
		}
	}
}
