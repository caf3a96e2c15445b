package rpc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"jambalaya/internal/pki"
	"jambalaya/parallel"
)

const (
	controlName   = "jambalaya.Control"
	methodSession = "/jambalaya.Control/Session"
)

// control is the service for messages that are not of a generation. Each session has
// a connection of its own, so that it never waits for the data of ranks.
var control = grpc.ServiceDesc{
	ServiceName: controlName,
	HandlerType: (*any)(nil),
	Streams: []grpc.StreamDesc{{StreamName: "Session", Handler: func(srv any, s grpc.ServerStream) error {
		return srv.(*Node).session(s)
	}, ClientStreams: true, ServerStreams: true}},
}

// sessionQueue is how many messages wait to be sent before a session counts as
// broken: its peer takes none.
const sessionQueue = 256

// closeTimeout is how long a closed session may take to send what is left.
const closeTimeout = 2 * time.Second

// ErrBlocked is returned by Session.Send when the peer takes no messages.
var ErrBlocked = errors.New("the peer takes no messages")

// ErrGone is returned by Open when nobody listens at the address any more: the process
// that did has ended.
var ErrGone = errors.New("nobody listens there")

// Session is a two-way stream of small messages between two processes. It breaks as
// soon as either of them dies. Send may be called by several goroutines, Recv by one.
type Session struct {
	stream interface {
		SendMsg(m any) error
		RecvMsg(m any) error
	}
	queue   chan []byte
	closing chan struct{} // nothing more is queued
	once    sync.Once
	sent    chan struct{} // all that was queued is sent, or never will be
	broken  chan struct{} // by Break
	tearing sync.Once
	hangUp  func()       // ends the stream and its connection; nil on the server's side
	finish  func() error // says that nothing more comes; nil on the server's side
}

func newSession() *Session {
	return &Session{queue: make(chan []byte, sessionQueue), closing: make(chan struct{}), sent: make(chan struct{}), broken: make(chan struct{})}
}

// OnSession sets what is done with the sessions that other processes open. It runs in
// a goroutine of its own for each, and the session ends when it returns.
func (n *Node) OnSession(handle func(*Session)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.handle = handle
}

// Open opens a session with the node at an address, which must have the right to
// coordinate.
func (n *Node) Open(ctx context.Context, address string) (*Session, error) {
	var gone atomic.Bool
	conn, err := n.dial(address, pki.Coordinator, "", grpc.WithContextDialer(func(ctx context.Context, address string) (net.Conn, error) {
		c, err := n.connect(ctx, address)
		gone.Store(errors.Is(err, syscall.ECONNREFUSED))
		return c, err
	}))
	if err != nil {
		return nil, fmt.Errorf("open a session with %s: %w", address, err)
	}
	s := newSession()
	life, cancel := context.WithCancel(context.Background())
	s.hangUp = func() {
		cancel()
		conn.Close() // fails only if closed already
	}
	stop := context.AfterFunc(ctx, s.Break)
	stream, err := conn.NewStream(life, &grpc.StreamDesc{StreamName: "Session", ClientStreams: true, ServerStreams: true}, methodSession)
	if err == nil {
		// The server answers with its header as soon as it has taken the session.
		_, err = stream.Header()
	}
	if !stop() || err != nil {
		s.Break()
		switch {
		case gone.Load():
			err = fmt.Errorf("%w: %w", parallel.ErrLost, ErrGone)
		case err == nil:
			err = sessionError(ctx.Err())
		default:
			err = sessionError(err)
		}
		return nil, fmt.Errorf("open a session with %s: %w", address, err)
	}
	s.stream, s.finish = stream, stream.CloseSend
	go s.write()
	return s, nil
}

func sessionError(err error) error {
	s := status.Convert(err)
	return fmt.Errorf("%w: %s", parallel.ErrLost, s.Message())
}

// session is the server's side of Open.
func (n *Node) session(stream grpc.ServerStream) error {
	n.mu.Lock()
	handle := n.handle
	n.mu.Unlock()
	if handle == nil {
		return status.Error(codes.Unavailable, "this process takes no sessions")
	}
	if err := stream.SendHeader(nil); err != nil {
		return err
	}
	s := newSession()
	s.stream = stream
	go s.write()
	handled := make(chan struct{})
	go func() {
		defer close(handled)
		handle(s)
	}()
	select {
	case <-handled:
		s.Close()
	case <-s.broken: // returning ends the stream, and with it Recv
	case <-n.closing:
	}
	return status.Error(codes.Unavailable, "the session has ended")
}

// Send queues a message.
func (s *Session) Send(text []byte) error {
	if len(text) > parallel.MaxChunkBytes {
		return fmt.Errorf("session: %w: message of %d bytes", parallel.ErrArgument, len(text))
	}
	select {
	case <-s.closing:
		return fmt.Errorf("session: %w", parallel.ErrClosed)
	default:
	}
	select {
	case s.queue <- text:
		return nil
	default:
		s.Break()
		return fmt.Errorf("session: %w", ErrBlocked)
	}
}

// write sends what is queued.
func (s *Session) write() {
	defer close(s.sent)
	for {
		select {
		case text := <-s.queue:
			if s.stream.SendMsg(wrap(text)) != nil {
				return // Recv says why
			}
		case <-s.broken:
			return
		case <-s.closing:
			for {
				select {
				case text := <-s.queue:
					if s.stream.SendMsg(wrap(text)) != nil {
						return
					}
				default:
					if s.finish != nil {
						_ = s.finish() // never fails
					}
					return
				}
			}
		}
	}
}

func wrap(text []byte) *parallel.Message {
	payload := parallel.NewBuffer(len(text))
	copy(payload.Data, text)
	return &parallel.Message{Payload: payload}
}

// Recv returns the next message. After an error the session is of no more use.
func (s *Session) Recv() ([]byte, error) {
	var in received
	err := s.stream.RecvMsg(&in)
	switch {
	case err == io.EOF:
		return nil, fmt.Errorf("session: %w", parallel.ErrClosed)
	case err != nil:
		return nil, fmt.Errorf("session: %w", sessionError(err))
	case in.err != nil:
		s.Break()
		return nil, fmt.Errorf("session: %w", in.err)
	}
	text := append([]byte(nil), in.Bytes()...)
	in.Payload.Free()
	return text, nil
}

// Close sends what is queued, waits for the other side to take it, for a while, and
// ends the session.
func (s *Session) Close() {
	s.once.Do(func() {
		close(s.closing)
		timer := time.NewTimer(closeTimeout)
		defer timer.Stop()
		select {
		case <-s.sent:
		case <-timer.C:
		}
		if s.hangUp == nil {
			s.Break()
			return
		}
		// The server ends the stream when it has read all; then the connection goes.
		time.AfterFunc(closeTimeout, s.Break)
	})
}

// Break ends the session at once.
func (s *Session) Break() {
	s.tearing.Do(func() {
		close(s.broken)
		if s.hangUp != nil {
			s.hangUp()
		}
	})
}
