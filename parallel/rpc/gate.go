package rpc

import (
	"container/list"
	"net"
	"sync"

	"google.golang.org/grpc/credentials"
)

// gate bounds the connections that a listener accepts. Whoever opens many costs a node
// little: a connection is a stranger until it has proved who it is, and when there are
// too many of them the oldest is closed for the newest. So a peer that has something
// to prove comes through, at once, even while others knock without end.
type gate struct {
	net.Listener
	mu        sync.Mutex
	open      int
	strangers list.List // of *gateConn, the oldest first
}

func newGate(l net.Listener) *gate { return &gate{Listener: l} }

// Accept returns the next connection for which there is room.
func (g *gate) Accept() (net.Conn, error) {
	for {
		conn, err := g.Listener.Accept()
		if err != nil {
			return nil, err
		}
		if c := g.admit(conn); c != nil {
			return c, nil
		}
		conn.Close()
	}
}

func (g *gate) admit(conn net.Conn) net.Conn {
	g.mu.Lock()
	var oldest *gateConn
	if first := g.strangers.Front(); first != nil && (g.open >= maxConns || g.strangers.Len() >= maxStrangers) {
		oldest = first.Value.(*gateConn)
		g.strangers.Remove(first)
		oldest.place = nil
	}
	var admitted *gateConn
	if g.open < maxConns || oldest != nil {
		g.open++
		admitted = &gateConn{Conn: conn, gate: g}
		admitted.place = g.strangers.PushBack(admitted)
	}
	g.mu.Unlock()
	if oldest != nil {
		oldest.Close()
	}
	if admitted == nil {
		return nil
	}
	return admitted
}

// gateConn is a connection that was let in.
type gateConn struct {
	net.Conn
	gate  *gate
	place *list.Element // among the strangers; nil: it is none
	once  sync.Once
}

// known says that the peer has proved who it is.
func (c *gateConn) known() {
	c.gate.mu.Lock()
	defer c.gate.mu.Unlock()
	if c.place != nil {
		c.gate.strangers.Remove(c.place)
		c.place = nil
	}
}

// Close closes the connection and makes room for another.
func (c *gateConn) Close() error {
	c.once.Do(func() {
		c.known()
		c.gate.mu.Lock()
		c.gate.open--
		c.gate.mu.Unlock()
	})
	return c.Conn.Close()
}

// proving tells the gate who is no stranger any more: with TLS, who has shaken hands.
type proving struct {
	credentials.TransportCredentials
}

// ServerHandshake implements credentials.TransportCredentials.
func (p proving) ServerHandshake(conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	secure, info, err := p.TransportCredentials.ServerHandshake(conn)
	c, ok := conn.(*gateConn)
	if !ok || err != nil {
		return secure, info, err
	}
	if _, encrypted := info.(credentials.TLSInfo); !encrypted {
		return secure, plain{info, c}, nil
	}
	c.known()
	return secure, info, nil
}

// Clone implements credentials.TransportCredentials.
func (p proving) Clone() credentials.TransportCredentials {
	return proving{p.TransportCredentials.Clone()}
}

// plain is what is known of a connection without TLS: nothing, until it has called a
// method that there is.
type plain struct {
	credentials.AuthInfo
	conn *gateConn
}
