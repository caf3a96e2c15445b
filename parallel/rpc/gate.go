package rpc

import (
	"container/list"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/credentials"

	"jambalaya/internal/pki"
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

// Close ends the listener and all who have not proved who they are: nobody waits for
// them to do so any more.
func (g *gate) Close() error {
	err := g.Listener.Close()
	g.mu.Lock()
	var left []net.Conn
	for e := g.strangers.Front(); e != nil; e = e.Next() {
		left = append(left, e.Value.(*gateConn))
	}
	g.mu.Unlock()
	for _, c := range left {
		c.Close() // it is of no use to know why that fails
	}
	return err
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
		admitted = &gateConn{Conn: conn, gate: g, allowed: watcherBurst, since: time.Now()}
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

	worker  atomic.Bool // has the certificate of one, or nobody needs one
	allowed float64     // bytes that may be read at once
	since   time.Time   // when that was so
}

// Read reads at the rate of who watches and has little to say, unless the peer is a
// worker: what it sends has to be looked at, and costs more than to send it.
func (c *gateConn) Read(b []byte) (int, error) {
	if c.worker.Load() {
		return c.Conn.Read(b)
	}
	n, err := c.Conn.Read(b[:min(len(b), watcherBurst)])
	now := time.Now()
	c.allowed = min(watcherBurst, c.allowed+now.Sub(c.since).Seconds()*watcherRate) - float64(n)
	c.since = now
	if c.allowed < 0 {
		time.Sleep(time.Duration(-c.allowed / watcherRate * float64(time.Second)))
	}
	return n, err
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
	shown, encrypted := info.(credentials.TLSInfo)
	if !encrypted {
		c.worker.Store(true)
		return secure, plain{info, c}, nil
	}
	id, err := pki.PeerOf(shown.State)
	c.worker.Store(err == nil && id.Is(pki.Worker))
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
