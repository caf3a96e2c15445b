package launch

import (
	"fmt"
	"net"
	"strconv"

	"jambalaya/internal/cli"
)

// addresses are where a process listens: gossip on one port, everything else on
// another of the same host.
type addresses struct {
	gossip   string
	node     string
	seeds    []string
	loopback bool
}

// addressesOf decides where to listen. The first process has the master's address,
// others any port of the address that leads to it.
func addressesOf(o Options) (addresses, error) {
	a := addresses{}
	own := o.Listen
	switch {
	case own != "":
		if host, port, err := net.SplitHostPort(own); err != nil || host == "" || port == "" {
			return a, cli.Config(fmt.Errorf("--listen: %q is not HOST:PORT", own))
		}
	case o.Place.Master == "":
		own = "127.0.0.1:0"
	default:
		host, err := towards(o.Place.Master)
		if err != nil {
			return a, cli.Config(fmt.Errorf("the first worker's address, %s: %w", o.Place.Master, err))
		}
		port := "0"
		if o.Place.Rank == 0 && !o.Joining {
			_, port, _ = net.SplitHostPort(o.Place.Master) // was checked
		}
		own = net.JoinHostPort(host, port)
	}
	host, _, _ := net.SplitHostPort(own)
	ip := net.ParseIP(host)
	a.loopback = host == "localhost" || ip != nil && ip.IsLoopback()
	if host == "localhost" {
		host = "127.0.0.1"
		_, port, _ := net.SplitHostPort(own)
		own = net.JoinHostPort(host, port)
	}
	a.gossip, a.node = own, net.JoinHostPort(host, "0")
	if o.Place.Master != "" && o.Place.Master != own {
		a.seeds = []string{o.Place.Master}
	}
	return a, nil
}

// towards is this machine's address on the way to another. Nothing is sent.
func towards(address string) (string, error) {
	c, err := net.Dial("udp", address)
	if err != nil {
		return "", err
	}
	defer c.Close()
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	return host, err
}

// freePort finds a port of the loopback interface that nobody listens on, for TCP and
// UDP.
func freePort() (int, error) {
	for range 16 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		u, err := net.ListenPacket("udp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		l.Close()
		if err == nil {
			u.Close()
			return port, nil
		}
	}
	return 0, fmt.Errorf("no port of 127.0.0.1 is free for both TCP and UDP")
}
