package faultproxy

import (
	"errors"
	"net"
	"sync"
	"time"
)

var noTime time.Time

const maxDatagram = 64 << 10

// UDP is a proxy of datagrams. Each peer that sends to it gets a socket of its own
// towards the target.
type UDP struct {
	conn   *net.UDPConn
	target *net.UDPAddr
	ways   *ways
	closed chan struct{}
	once   sync.Once
	all    sync.WaitGroup

	mu    sync.Mutex
	peers map[string]*peer
}

// peer is who sends from an address.
type peer struct {
	conn *net.UDPConn // towards the target
	out  *queue       // to it
}

// ListenUDP passes datagrams between who sends to an address and the target.
func ListenUDP(address, target string, seed uint64) (*UDP, error) {
	from, err := net.ResolveUDPAddr("udp", address)
	if err != nil {
		return nil, err
	}
	to, err := net.ResolveUDPAddr("udp", target)
	if err != nil {
		return nil, err
	}
	conn, err := net.ListenUDP("udp", from)
	if err != nil {
		return nil, err
	}
	p := &UDP{conn: conn, target: to, ways: newWays(seed, "datagrams "), closed: make(chan struct{}), peers: map[string]*peer{}}
	p.all.Go(p.serve)
	return p, nil
}

// Addr is where the proxy listens.
func (p *UDP) Addr() string { return p.conn.LocalAddr().String() }

// Set changes what happens in one direction or both, to all who send.
func (p *UDP) Set(d Direction, f Fault) { p.ways.set("", d, f) }

// SetFrom changes it for who sends from an IP address.
func (p *UDP) SetFrom(host string, d Direction, f Fault) { p.ways.set(host, d, f) }

// Close ends the proxy.
func (p *UDP) Close() error {
	p.once.Do(func() { close(p.closed) })
	err := p.conn.Close()
	p.mu.Lock()
	for _, peer := range p.peers {
		peer.conn.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
	return err
}

func (p *UDP) serve() {
	data := make([]byte, maxDatagram)
	defer func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, peer := range p.peers {
			peer.out.close()
		}
	}()
	for {
		n, from, err := p.conn.ReadFromUDP(data)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if peer := p.peer(from); peer != nil {
			peer.out.pass(data[:n], func(b []byte) { peer.conn.Write(b) })
		}
	}
}

// peer returns who sends from an address.
func (p *UDP) peer(from *net.UDPAddr) *peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return nil
	default:
	}
	if known := p.peers[from.String()]; known != nil {
		return known
	}
	c, err := net.DialUDP("udp", nil, p.target)
	if err != nil {
		return nil // the datagram is lost
	}
	forward, backward := p.ways.of(from.IP)
	next := &peer{c, newQueue(p, forward)}
	p.peers[from.String()] = next
	p.all.Go(func() {
		data := make([]byte, maxDatagram)
		out := newQueue(p, backward)
		defer out.close()
		for {
			n, err := c.Read(data)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if err == nil {
				out.pass(data[:n], func(b []byte) { p.conn.WriteToUDP(b, from) })
			}
		}
	})
	return next
}

// queue holds the datagrams of a direction that are under way.
type queue struct {
	proxy *UDP
	way   *way
	next  chan func() bool
}

func newQueue(p *UDP, w *way) *queue {
	q := &queue{p, w, make(chan func() bool, underWay)}
	p.all.Go(func() {
		for send := range q.next {
			if !send() {
				break
			}
		}
		for range q.next {
		}
	})
	return q
}

func (q *queue) close() { close(q.next) }

// pass sends a datagram on its way. A full queue loses it, as a full buffer does.
func (q *queue) pass(data []byte, write func([]byte)) {
	data = append([]byte(nil), data...)
	due, twice, ok := q.way.pass(data, true)
	if !ok {
		return
	}
	send := func() bool {
		if !q.way.wait(due, q.proxy.closed) || !q.way.wait(q.way.sent(len(data)), q.proxy.closed) {
			return false
		}
		write(data)
		if twice {
			write(data)
		}
		return true
	}
	select {
	case q.next <- send:
	default:
	}
}
