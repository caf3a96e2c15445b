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
	conn     *net.UDPConn
	target   *net.UDPAddr
	forward  *way
	backward *way
	closed   chan struct{}
	once     sync.Once
	all      sync.WaitGroup

	mu    sync.Mutex
	peers map[string]*net.UDPConn
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
	p := &UDP{conn: conn, target: to, forward: newWay(seed, "datagrams forward"), backward: newWay(seed, "datagrams backward"),
		closed: make(chan struct{}), peers: map[string]*net.UDPConn{}}
	p.all.Go(p.serve)
	return p, nil
}

// Addr is where the proxy listens.
func (p *UDP) Addr() string { return p.conn.LocalAddr().String() }

// Set changes what happens in one direction or both.
func (p *UDP) Set(d Direction, f Fault) {
	if d&Forward != 0 {
		p.forward.set(f)
	}
	if d&Backward != 0 {
		p.backward.set(f)
	}
}

// Close ends the proxy.
func (p *UDP) Close() error {
	p.once.Do(func() { close(p.closed) })
	err := p.conn.Close()
	p.mu.Lock()
	for _, c := range p.peers {
		c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
	return err
}

func (p *UDP) serve() {
	data := make([]byte, maxDatagram)
	out := newQueue(p, p.forward)
	defer out.close()
	for {
		n, from, err := p.conn.ReadFromUDP(data)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		if peer := p.peer(from); peer != nil {
			out.pass(data[:n], func(b []byte) { peer.Write(b) })
		}
	}
}

// peer returns the socket for who sends from an address.
func (p *UDP) peer(from *net.UDPAddr) *net.UDPConn {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return nil
	default:
	}
	if c := p.peers[from.String()]; c != nil {
		return c
	}
	c, err := net.DialUDP("udp", nil, p.target)
	if err != nil {
		return nil // the datagram is lost
	}
	p.peers[from.String()] = c
	p.all.Go(func() {
		data := make([]byte, maxDatagram)
		out := newQueue(p, p.backward)
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
	return c
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
		if !q.way.wait(due, q.proxy.closed) {
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
