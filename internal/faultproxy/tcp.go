package faultproxy

import (
	"errors"
	"io"
	"net"
	"sync"
)

const (
	pieceBytes = 16 << 10
	underWay   = 64 // pieces of a connection and direction
)

// TCP is a proxy of connections.
type TCP struct {
	listener net.Listener
	target   string
	ways     *ways
	closed   chan struct{}
	once     sync.Once
	all      sync.WaitGroup

	mu    sync.Mutex
	conns map[*net.TCPConn]bool
}

// ListenTCP accepts connections at an address and makes one to the target for each.
func ListenTCP(address, target string, seed uint64) (*TCP, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	p := &TCP{listener: l, target: target, ways: newWays(seed, ""), closed: make(chan struct{}), conns: map[*net.TCPConn]bool{}}
	p.all.Go(p.accept)
	return p, nil
}

// Addr is where the proxy listens.
func (p *TCP) Addr() string { return p.listener.Addr().String() }

// Set changes what happens in one direction or both, to all who connect.
func (p *TCP) Set(d Direction, f Fault) { p.ways.set("", d, f) }

// SetFrom changes it for who connects from an IP address.
func (p *TCP) SetFrom(host string, d Direction, f Fault) { p.ways.set(host, d, f) }

// Reset breaks all connections there are, as a machine does that was restarted.
func (p *TCP) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.SetLinger(0) // closed without delay if this fails
		c.Close()
	}
}

// Close ends the proxy and its connections.
func (p *TCP) Close() error {
	p.once.Do(func() { close(p.closed) })
	err := p.listener.Close()
	p.Reset()
	p.all.Wait()
	return err
}

func (p *TCP) accept() {
	for {
		c, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // the client has gone again
		}
		p.all.Go(func() { p.connect(c.(*net.TCPConn)) })
	}
}

func (p *TCP) connect(client *net.TCPConn) {
	if !p.add(client) {
		return
	}
	defer p.remove(client)
	forward, backward := p.ways.of(client.RemoteAddr().(*net.TCPAddr).IP)
	// A stall holds up who connects, too.
	if !forward.wait(noTime, p.closed) {
		return
	}
	conn, err := net.Dial("tcp", p.target)
	if err != nil {
		_ = client.SetLinger(0) // as if it were the target that refuses
		return
	}
	target := conn.(*net.TCPConn)
	if !p.add(target) {
		return
	}
	defer p.remove(target)
	var both sync.WaitGroup
	both.Go(func() { p.copy(target, client, forward) })
	both.Go(func() { p.copy(client, target, backward) })
	both.Wait()
}

func (p *TCP) add(c *net.TCPConn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		c.Close()
		return false
	default:
	}
	p.conns[c] = true
	return true
}

func (p *TCP) remove(c *net.TCPConn) {
	c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, c)
}

// copy passes what one side sends to the other, until either is gone. The end of what
// is sent passes as well; any other end breaks both sides.
func (p *TCP) copy(to, from *net.TCPConn, w *way) {
	pieces := make(chan piece, underWay)
	var reader sync.WaitGroup
	gone := make(chan struct{})
	var ended error
	reader.Go(func() {
		defer close(pieces)
		for {
			data := make([]byte, pieceBytes)
			n, err := from.Read(data)
			if n > 0 {
				due, _, _ := w.pass(data[:n], false)
				select {
				case pieces <- piece{data[:n], due}:
				case <-gone:
					return
				}
			}
			if err != nil {
				ended = err
				return
			}
		}
	})
	intact := true
	for next := range pieces {
		if intact = w.wait(next.due, p.closed) && w.wait(w.sent(len(next.data)), p.closed); !intact {
			break
		}
		if _, err := to.Write(next.data); err != nil {
			intact = false
			break
		}
	}
	close(gone)
	if !intact {
		from.Close()
		to.Close()
	}
	reader.Wait()
	if intact && ended == io.EOF {
		_ = to.CloseWrite() // fails if the other side has gone
		return
	}
	_ = to.SetLinger(0)
	to.Close()
	from.Close()
}
