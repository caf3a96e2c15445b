package rpc

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"jambalaya/internal/pki"
)

// callers lists who may call what. What is not in it, nobody may.
var callers = map[string][]pki.Role{
	methodHello:   {pki.Worker},
	methodAbort:   {pki.Worker},
	methodStream:  {pki.Worker},
	methodSession: {pki.Worker, pki.Watcher},
}

// anyRole is for connections: what their methods demand is checked with each call.
var anyRole = []pki.Role{pki.Worker, pki.Watcher}

// allowed refuses to talk in plain text to other machines.
func allowed(address string, options Options) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); options.Credentials != nil || options.Plaintext || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return ErrInsecure
}

// serverCredentials are what the server shows, and wants to see.
func (o Options) serverCredentials() credentials.TransportCredentials {
	if o.Credentials == nil {
		return insecure.NewCredentials()
	}
	return credentials.NewTLS(o.Credentials.TLS(anyRole...))
}

// clientCredentials are for a connection to a process that must have a role, and the
// certificate of a worker if a name is given.
func (o Options) clientCredentials(role pki.Role, name string) credentials.TransportCredentials {
	if o.Credentials == nil {
		return insecure.NewCredentials()
	}
	c := o.Credentials.TLS(role)
	verify := c.VerifyConnection
	c.VerifyConnection = func(s tls.ConnectionState) error {
		if err := verify(s); err != nil {
			return err
		}
		id, err := pki.PeerOf(s)
		if err == nil && name != "" && !id.Named(name) {
			err = fmt.Errorf("%w: the certificate is of %s, not of worker %s", pki.ErrRefused, id, name)
		}
		return err
	}
	return explaining{credentials.NewTLS(c), o.Credentials}
}

// explaining says in the errors of a client's connection which side has refused the
// other, and what can be done about it: TLS tells the one that was refused next to
// nothing, and that only when it first reads.
type explaining struct {
	credentials.TransportCredentials
	own *pki.Credentials
}

// ClientHandshake implements credentials.TransportCredentials.
func (e explaining) ClientHandshake(ctx context.Context, authority string, raw net.Conn) (net.Conn, credentials.AuthInfo, error) {
	at := raw.RemoteAddr()
	conn, info, err := e.TransportCredentials.ClientHandshake(ctx, authority, raw)
	switch {
	case errors.Is(err, pki.ErrRefused):
		return conn, info, fmt.Errorf("this process, with the authority beside %s, does not take the certificate of the one at %s: %w; give both what one call of train certs has made", e.own.File(), at, err)
	case err != nil:
		return conn, info, e.explain(at, err)
	}
	return &explained{conn, e, at}, info, nil
}

// Clone implements credentials.TransportCredentials.
func (e explaining) Clone() credentials.TransportCredentials {
	return explaining{e.TransportCredentials.Clone(), e.own}
}

// explain says what an alert of the other side means.
func (e explaining) explain(at net.Addr, err error) error {
	var alert *net.OpError
	if !errors.As(err, &alert) || alert.Op != "remote error" || !strings.Contains(alert.Err.Error(), "certificate") {
		return err
	}
	return fmt.Errorf("the process at %s does not take the certificate of this one, %s (%s): %w; its authority, the dates or the role do not fit: compare ca.pem and the clocks of both, or make their certificates anew with: train certs",
		at, e.own.File(), e.own.Identity(), err)
}

// explained is a connection whose other side may still refuse it.
type explained struct {
	net.Conn
	side explaining
	at   net.Addr
}

func (c *explained) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if err != nil {
		err = c.side.explain(c.at, err)
	}
	return n, err
}

// identity is who calls; known is false without TLS.
func identity(ctx context.Context) (id pki.Identity, known bool, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return id, false, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return id, false, nil
	}
	id, err = pki.PeerOf(info.State)
	return id, true, err
}

// authorize refuses a call that its caller may not make. Unary methods ask it before
// they read their message, streams by authorizeStream.
func authorize(ctx context.Context, method string) error {
	roles, exists := callers[method]
	if !exists {
		return status.Errorf(codes.PermissionDenied, "there is no method %q", method)
	}
	id, known, err := identity(ctx)
	switch {
	case err != nil:
		return status.Error(codes.PermissionDenied, err.Error())
	case known && !slices.ContainsFunc(roles, id.Is):
		return status.Errorf(codes.PermissionDenied, "a %s may not call %s", id, method)
	}
	if p, ok := peer.FromContext(ctx); ok {
		if plain, ok := p.AuthInfo.(plain); ok {
			plain.conn.known()
		}
	}
	return nil
}

func authorizeStream(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if err := authorize(s.Context(), info.FullMethod); err != nil {
		return err
	}
	return handler(srv, s)
}

// unknown answers calls of methods that do not exist.
func unknown(_ any, s grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(s)
	return status.Errorf(codes.PermissionDenied, "there is no method %q", method)
}

// Expect says which workers the ranks of a generation are, before Join. A process that
// claims to be a rank, or answers at its address, must have that worker's certificate.
func (n *Node) Expect(generation uint64, workers []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.expected, n.workers = generation, slices.Clone(workers)
}

// worker is the name of the worker that has a rank, "" if any may.
func (n *Node) worker(generation uint64, rank int) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.expected != generation || rank < 0 || rank >= len(n.workers) {
		return ""
	}
	return n.workers[rank]
}

// mayBe refuses a caller that has not the certificate of the rank that it claims to be.
func (n *Node) mayBe(ctx context.Context, c caller) error {
	id, known, err := identity(ctx)
	if err != nil || !known {
		return err
	}
	if name := n.worker(c.id.Generation, c.rank); !id.Named(name) && name != "" {
		return status.Errorf(codes.PermissionDenied, "rank %d of generation %d is worker %s, the certificate is of %s", c.rank, c.id.Generation, name, id)
	}
	return nil
}
