package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"jambalaya/parallel"
)

// laneWindow is how many messages wait on either side of a stream.
const laneWindow = parallel.MinWindow / lanes

// maxChannels bounds what peers can open.
const maxChannels = 64

// channel is a member's end of a named channel.
type channel struct {
	*member
	name  string
	in    []inbox // by rank
	out   []*link // by rank; nil until the first message
	opens sync.Mutex
}

// inbox holds the messages of a rank, which take the lanes in turn.
type inbox struct {
	lanes [lanes]chan parallel.Message // closed when the rank has sent all
	next  int                          // lane
	taken [lanes]bool                  // by a stream; guarded by member.mu
}

// Channel opens a channel, or returns the open one.
func (m *member) Channel(name string) parallel.Channel { return m.channel(name) }

func (m *member) channel(name string) *channel {
	m.mu.Lock()
	defer m.mu.Unlock()
	c, ok := m.channels[name]
	if !ok {
		c = &channel{member: m, name: name, in: make([]inbox, m.Size()), out: make([]*link, m.Size())}
		for i := range c.in {
			for lane := range lanes {
				c.in[i].lanes[lane] = make(chan parallel.Message, laneWindow)
			}
		}
		m.channels[name] = c
	}
	return c
}

// flush waits until all that was sent has been taken.
func (m *member) flush() {
	m.mu.Lock()
	var open []*link
	for _, c := range m.channels {
		c.opens.Lock()
		for _, l := range c.out {
			if l != nil {
				open = append(open, l)
			}
		}
		c.opens.Unlock()
	}
	m.mu.Unlock()
	for _, l := range open {
		close(l.closing)
	}
	for _, l := range open {
		l.streams.Wait()
	}
}

func (c *channel) Send(ctx context.Context, to int, message parallel.Message) error {
	select {
	case <-c.done:
		return c.err
	default:
	}
	l, err := c.link(to)
	if err != nil {
		return err
	}
	select {
	case l.queues[l.next] <- &message:
		l.next = (l.next + 1) % lanes
		return nil
	case <-c.done:
		return c.err
	case <-l.left:
		return fmt.Errorf("%w: rank %d has left", parallel.ErrLost, to)
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (c *channel) Recv(ctx context.Context, from int) (parallel.Message, error) {
	if from < 0 || from >= c.Size() || from == c.rank {
		return parallel.Message{}, fmt.Errorf("%w: rank %d of a world of %d", parallel.ErrArgument, from, c.Size())
	}
	in := &c.in[from]
	select {
	case message, ok := <-in.lanes[in.next]:
		if !ok {
			return message, fmt.Errorf("%w: rank %d has left", parallel.ErrLost, from)
		}
		in.next = (in.next + 1) % lanes
		return message, nil
	case <-c.done:
		return parallel.Message{}, c.err
	case <-ctx.Done():
		return parallel.Message{}, ctx.Err()
	}
}

// link is the way of a channel to a rank.
type link struct {
	queues  [lanes]chan *parallel.Message
	next    int           // lane
	closing chan struct{} // closed to flush
	left    chan struct{} // closed when the rank takes no more
	leave   sync.Once
	streams sync.WaitGroup
}

func (c *channel) link(to int) (*link, error) {
	if to < 0 || to >= c.Size() || to == c.rank {
		return nil, fmt.Errorf("%w: rank %d of a world of %d", parallel.ErrArgument, to, c.Size())
	}
	c.opens.Lock()
	defer c.opens.Unlock()
	if c.out[to] == nil {
		l := &link{closing: make(chan struct{}), left: make(chan struct{})}
		for lane := range lanes {
			l.queues[lane] = make(chan *parallel.Message, laneWindow)
			l.streams.Go(func() { c.write(l, to, lane) })
		}
		c.out[to] = l
	}
	return c.out[to], nil
}

// write sends the messages of a lane until the link is closed or breaks.
func (c *channel) write(l *link, to, lane int) {
	who := c.caller(to)
	who.channel, who.lane = c.name, lane
	stream, err := c.conn[to][lane].NewStream(who.outgoing(c.ctx), streamDesc, methodStream)
	if err != nil {
		c.broken(l, to, err)
		return
	}
	l.streams.Go(func() {
		// Nothing comes back but the end of the stream.
		if err := stream.RecvMsg(&received{}); err != io.EOF {
			c.broken(l, to, err)
		}
	})
	for {
		select {
		case message := <-l.queues[lane]:
			if stream.SendMsg(message) != nil {
				return // RecvMsg says why
			}
		case <-l.closing:
			c.drain(l, lane, stream)
			return
		case <-c.done:
			return
		}
	}
}

// drain sends what is left in a queue, and the end.
func (c *channel) drain(l *link, lane int, stream grpc.ClientStream) {
	for {
		select {
		case message := <-l.queues[lane]:
			if stream.SendMsg(message) != nil {
				return
			}
		default:
			_ = stream.CloseSend() // never fails
			return
		}
	}
}

// broken is called when a stream to a rank ended before its time.
func (c *channel) broken(l *link, to int, err error) {
	if status.Code(err) == codes.Aborted {
		l.leave.Do(func() { close(l.left) })
		return
	}
	c.lost(to, err)
}

// stream is the receiving end of a link.
func (n *Node) stream(s grpc.ServerStream) error {
	m, who, err := n.admit(s.Context())
	if err != nil {
		return err
	}
	lane, err := m.take(who)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- m.read(s, who, lane) }()
	select {
	case err := <-ended:
		return err
	case <-m.done:
		return m.farewell()
	}
}

// take gives a lane to a stream, once.
func (m *member) take(who caller) (chan<- parallel.Message, error) {
	m.mu.Lock()
	_, known := m.channels[who.channel]
	full := !known && len(m.channels) >= maxChannels
	m.mu.Unlock()
	if full {
		return nil, status.Errorf(codes.ResourceExhausted, "more than %d channels", maxChannels)
	}
	c := m.channel(who.channel)
	m.mu.Lock()
	defer m.mu.Unlock()
	in := &c.in[who.rank]
	if in.taken[who.lane] {
		return nil, status.Errorf(codes.AlreadyExists, "channel %q of rank %d, lane %d, is open", who.channel, who.rank, who.lane)
	}
	in.taken[who.lane] = true
	return in.lanes[who.lane], nil
}

// read puts the messages of a stream in a lane.
func (m *member) read(s grpc.ServerStream, who caller, lane chan<- parallel.Message) error {
	for {
		var in received
		err := s.RecvMsg(&in)
		switch {
		case err == io.EOF:
			close(lane)
			return nil
		case err != nil:
			m.lost(who.rank, err)
			return err
		case in.err != nil:
			m.fail(fmt.Errorf("message of rank %d: %w", who.rank, in.err))
			return m.farewell()
		}
		m.transits[who.rank].arrived(in.Sent, time.Now())
		select {
		case lane <- in.Message:
			m.transits[who.rank].taken(time.Now())
		case <-m.done:
			return m.farewell()
		}
	}
}

// farewell is what the sender of a stream is told when the membership has ended.
func (m *member) farewell() error {
	switch err := m.err; {
	case errors.Is(err, parallel.ErrGeneration):
		return refusal("%v", err)
	case err == parallel.ErrClosed:
		return status.Error(codes.Aborted, "has left")
	default:
		<-m.ctx.Done() // the sender learns the reason first
		return status.Error(codes.Canceled, "has given up")
	}
}
