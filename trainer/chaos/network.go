package chaos

import (
	"errors"
	"fmt"
	"net"
	"strconv"

	"jambalaya/internal/faultproxy"
)

// network is one that falls apart: machines with an address each, which reach each other
// through proxies only. A machine is an address of the loopback interface. It listens and
// speaks from there, and is told others, who come through a proxy, by another one.
type network struct {
	machines []*machine
}

// machine is one of them.
type machine struct {
	inner string // IP address that it has
	outer string // at which others reach it
	port  int    // of its gossip, on both; the next one is its node's
	tcp   [2]*faultproxy.TCP
	udp   *faultproxy.UDP
}

func (m *machine) listen() string    { return net.JoinHostPort(m.inner, strconv.Itoa(m.port)) }
func (m *machine) advertise() string { return net.JoinHostPort(m.outer, strconv.Itoa(m.port)) }

// newNetwork makes a number of machines, all connected.
func newNetwork(size int, seed uint64) (*network, error) {
	n := &network{}
	for i := range size {
		m := &machine{inner: fmt.Sprintf("127.77.0.%d", i+1), outer: fmt.Sprintf("127.77.1.%d", i+1)}
		n.machines = append(n.machines, m)
		if err := m.open(seed + uint64(i)); err != nil {
			n.close()
			return nil, errSkip{fmt.Sprintf("needs several addresses on the loopback interface, as Linux has: %v", err)}
		}
	}
	return n, nil
}

// open finds ports that are free and starts the proxies.
func (m *machine) open(seed uint64) error {
	var last error
	for range 50 {
		if m.port, last = freePorts(m.inner); last != nil {
			continue
		}
		if last = m.forward(seed); last == nil {
			return nil
		}
		m.close()
	}
	return last
}

// freePorts finds a port that is free for TCP and UDP, with the next one for TCP.
func freePorts(host string) (int, error) {
	first, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, err
	}
	defer first.Close()
	port := first.Addr().(*net.TCPAddr).Port
	next, err := net.Listen("tcp", net.JoinHostPort(host, strconv.Itoa(port+1)))
	if err != nil {
		return 0, err
	}
	defer next.Close()
	datagrams, err := net.ListenPacket("udp", net.JoinHostPort(host, strconv.Itoa(port)))
	if err != nil {
		return 0, err
	}
	return port, datagrams.Close()
}

func (m *machine) forward(seed uint64) (err error) {
	for i := range m.tcp {
		port := strconv.Itoa(m.port + i)
		if m.tcp[i], err = faultproxy.ListenTCP(net.JoinHostPort(m.outer, port), net.JoinHostPort(m.inner, port), seed); err != nil {
			return err
		}
	}
	m.udp, err = faultproxy.ListenUDP(m.advertise(), m.listen(), seed)
	return err
}

func (m *machine) close() error {
	var errs error
	for i, p := range m.tcp {
		if p != nil {
			errs = errors.Join(errs, p.Close())
		}
		m.tcp[i] = nil
	}
	if m.udp != nil {
		errs = errors.Join(errs, m.udp.Close())
		m.udp = nil
	}
	return errs
}

func (n *network) close() error {
	var errs error
	for _, m := range n.machines {
		errs = errors.Join(errs, m.close())
	}
	n.machines = nil
	return errs
}

// flow changes what happens to what a machine sends to another, whoever connected.
// Datagrams of a cut link are lost; what TCP sends waits, as it would send it again.
func (n *network) flow(from, to int, f faultproxy.Fault) {
	a, b := n.machines[from], n.machines[to]
	for i := range a.tcp {
		b.tcp[i].SetFrom(a.inner, faultproxy.Forward, f)
		a.tcp[i].SetFrom(b.inner, faultproxy.Backward, f)
	}
	if f.Stall {
		f = faultproxy.Fault{Drop: 1}
	}
	b.udp.SetFrom(a.inner, faultproxy.Forward, f)
	a.udp.SetFrom(b.inner, faultproxy.Backward, f)
}

var (
	cutLink   = faultproxy.Fault{Stall: true}
	wholeLink = faultproxy.Fault{}
)

// cut cuts what some machines send to the others, what they hear from them, or both.
func (n *network) cut(side map[int]bool, mute, deaf bool) {
	for i := range n.machines {
		for j := range n.machines {
			switch {
			case side[i] && !side[j] && mute, !side[i] && side[j] && deaf:
				n.flow(i, j, cutLink)
			}
		}
	}
}

// heal makes all links whole.
func (n *network) heal() {
	for i := range n.machines {
		for j := range n.machines {
			if i != j {
				n.flow(i, j, wholeLink)
			}
		}
	}
}
