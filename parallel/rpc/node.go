package rpc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"jambalaya/internal/pki"
	"jambalaya/parallel"
)

// ErrInsecure is returned for an address that is not loopback when there is no TLS.
var ErrInsecure = errors.New("not a loopback address, and there are no certificates; make them with: train certs")

// Options of a node. The zero value is good for one machine.
type Options struct {
	// Credentials prove who this process is, and tell who the others are. Nil: no
	// encryption, loopback only.
	Credentials *pki.Credentials
	// Plaintext allows connections without Credentials to other machines: whoever reaches
	// the port can then read and change everything.
	Plaintext bool
	// From is the IP address that connections to others are made from, as on a machine
	// with several; "": what the way to the other suggests.
	From string
}

// Limits of what a peer can make a node hold.
const (
	lanes         = 2 // connections to a rank
	maxStreams    = 64
	maxHeaderList = 16 << 10
	maxMessage    = parallel.MaxChunkBytes + parallel.HeaderBytes
	maxReason     = 4 << 10
	maxConns      = 4096     // open at once
	maxStrangers  = 256      // of them, without having proved who they are
	watcherRate   = 16 << 10 // bytes a second that are read from who is no worker
	watcherBurst  = 32 << 10 // of them at once: a handshake fits
	streamWindow  = 4 << 20
	connWindow    = 16 << 20
	ioBuffer      = 128 << 10
)

// Node is a process that ranks of one run after the other live in, one at a time.
type Node struct {
	options  Options
	listener net.Listener
	server   *grpc.Server

	mu       sync.Mutex
	member   *member       // the latest to join; nil before
	joined   chan struct{} // closed, and replaced, when one joins
	handle   func(*Session)
	expected uint64   // generation that workers are of
	workers  []string // by rank
	closing  chan struct{}
}

// Listen starts a node at an address, "host:port"; port 0 takes any.
func Listen(address string, options Options) (*Node, error) {
	if err := allowed(address, options); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", address, err)
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	n := &Node{options: options, listener: listener, joined: make(chan struct{}), closing: make(chan struct{})}
	n.server = grpc.NewServer(
		grpc.Creds(proving{options.serverCredentials()}),
		grpc.StreamInterceptor(authorizeStream),
		grpc.UnknownServiceHandler(unknown),
		grpc.ForceServerCodecV2(codec{}),
		grpc.WaitForHandlers(true),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.MaxSendMsgSize(maxMessage),
		grpc.MaxHeaderListSize(maxHeaderList),
		grpc.ConnectionTimeout(10*time.Second),
		grpc.InitialWindowSize(streamWindow),
		grpc.InitialConnWindowSize(connWindow),
		grpc.ReadBufferSize(ioBuffer),
		grpc.WriteBufferSize(ioBuffer),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	n.server.RegisterService(&service, n)
	n.server.RegisterService(&control, n)
	go n.server.Serve(newGate(listener)) // returns when Close stops the server
	return n, nil
}

// Addr returns the address that the node listens on.
func (n *Node) Addr() string { return n.listener.Addr().String() }

// Close ends the node and its membership.
func (n *Node) Close() error {
	n.mu.Lock()
	m := n.member
	n.mu.Unlock()
	close(n.closing)
	var err error
	if m != nil {
		err = m.Close()
	}
	n.server.Stop()
	return err
}

// dial prepares a connection to a process that must have a role, and the certificate of
// a worker if a name is given.
func (n *Node) dial(address string, role pki.Role, name string, more ...grpc.DialOption) (*grpc.ClientConn, error) {
	if err := allowed(address, n.options); err != nil {
		return nil, err
	}
	return grpc.NewClient("passthrough:///"+address, append([]grpc.DialOption{
		grpc.WithTransportCredentials(n.options.clientCredentials(role, name)),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(codec{}), grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
		grpc.WithMaxHeaderListSize(maxHeaderList),
		grpc.WithInitialWindowSize(streamWindow),
		grpc.WithInitialConnWindowSize(connWindow),
		grpc.WithReadBufferSize(ioBuffer),
		grpc.WithWriteBufferSize(ioBuffer),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second, PermitWithoutStream: true}),
		grpc.WithContextDialer(n.connect),
		grpc.WithDisableRetry(),
		grpc.WithNoProxy(),
	}, more...)...)
}

// connect makes a connection.
func (n *Node) connect(ctx context.Context, address string) (net.Conn, error) {
	var d net.Dialer
	if n.options.From != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(n.options.From)}
	}
	return d.DialContext(ctx, "tcp", address)
}

// admit returns the member that a call is meant for. It waits for this process to
// join the generation of the call.
func (n *Node) admit(ctx context.Context) (*member, caller, error) {
	c, err := incoming(ctx)
	if err != nil {
		return nil, c, err
	}
	if err := n.mayBe(ctx, c); err != nil {
		return nil, c, err
	}
	for {
		n.mu.Lock()
		m, joined := n.member, n.joined
		n.mu.Unlock()
		if m != nil && (m.id.Run != c.id.Run || m.id.Generation >= c.id.Generation) {
			return m, c, m.accepts(c)
		}
		select {
		case <-joined:
		case <-n.closing:
			return nil, c, status.Error(codes.Unavailable, "the process is closing")
		case <-ctx.Done():
			return nil, c, status.FromContextError(ctx.Err()).Err()
		}
	}
}

func (n *Node) hello(ctx context.Context, _ []byte) error {
	_, _, err := n.admit(ctx)
	return err
}

func (n *Node) aborted(ctx context.Context, reason []byte) error {
	m, c, err := n.admit(ctx)
	if err == nil {
		m.end(&parallel.AbortError{Rank: c.rank, Reason: string(reason[:min(len(reason), maxReason)])})
	}
	return err
}
