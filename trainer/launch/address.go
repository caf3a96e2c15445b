package launch

import (
	"errors"
	"fmt"
	"net"
	"strconv"
	"syscall"

	"jambalaya/internal/cli"
)

// addresses are where a process listens, and what it tells others of that: gossip on one
// port, everything else on another of the same host.
type addresses struct {
	gossip point
	node   point
	seeds  []string
	from   string // host that it speaks from, "" for what the way to the other suggests
}

// point is a place to be reached at.
type point struct {
	listen    string // host:port; port 0 takes any
	advertise string // host:port of the same for others; "" if they see what this process does
}

// reached is what others are told, if the process listens on an address.
func (p point) reached(listens string) string {
	if p.advertise != "" {
		return p.advertise
	}
	return listens
}

// addressesOf decides where to listen. With --listen or --advertise the ports are fixed;
// otherwise the first process has the master's address, and others any port of the
// address that leads to it.
func addressesOf(o Options) (addresses, error) {
	if o.Listen != "" || o.Advertise != "" {
		return fixedAddresses(o)
	}
	own := "127.0.0.1:0"
	if o.Place.Master != "" {
		host, err := towards(o.Place.Master)
		if err != nil {
			return addresses{}, cli.Config(fmt.Errorf("the first worker's address, %s: %w", o.Place.Master, err))
		}
		port := "0"
		if o.Place.Rank == 0 && !o.Joining {
			_, port, _ = net.SplitHostPort(o.Place.Master) // was checked
		}
		own = net.JoinHostPort(host, port)
	}
	host, _, _ := net.SplitHostPort(own)
	a := addresses{gossip: point{listen: own}, node: point{listen: net.JoinHostPort(host, "0")}}
	a.seed(o.Place.Master)
	return a, nil
}

// fixedAddresses are those of a worker of a machine whose network has to know its ports.
// Worker i of the machine gossips on port P + 2i, and has the next one for all else.
func fixedAddresses(o Options) (addresses, error) {
	if err := o.checkAddresses(); err != nil {
		return addresses{}, err
	}
	own := o.Listen
	if own == "" { // on all addresses that the machine has
		host, port, _ := net.SplitHostPort(o.Advertise)
		own = net.JoinHostPort(net.IPv4zero.String(), port)
		if ip := net.ParseIP(host); ip != nil && ip.To4() == nil {
			own = net.JoinHostPort(net.IPv6unspecified.String(), port)
		}
	}
	var a addresses
	host, gossip, node, err := pair("--listen", own, o.Place.Local)
	if err != nil {
		return a, err
	}
	a.gossip.listen, a.node.listen = net.JoinHostPort(host, gossip), net.JoinHostPort(host, node)
	if ip := net.ParseIP(host); !ip.IsUnspecified() {
		a.from = host
	}
	if o.Advertise != "" {
		if host, gossip, node, err = pair("--advertise", o.Advertise, o.Place.Local); err != nil {
			return a, err
		}
		a.gossip.advertise, a.node.advertise = net.JoinHostPort(host, gossip), net.JoinHostPort(host, node)
	}
	a.seed(o.Place.Master)
	return a, nil
}

// pair is the address of a machine's worker, by its place there, with its two ports.
func pair(flag, address string, local int) (host, gossip, node string, err error) {
	host, text, _ := net.SplitHostPort(address) // was checked
	port, _ := strconv.Atoi(text)
	if port += 2 * local; port+1 > 1<<16-1 {
		return "", "", "", cli.Config(fmt.Errorf("%s %s: worker %d of this machine needs the ports %d and %d, which do not exist; take a lower one", flag, address, local, port, port+1))
	}
	ip, err := net.ResolveIPAddr("ip", host) // an IPv4 address, if there is one
	if err != nil {
		return "", "", "", cli.Config(fmt.Errorf("%s %s: %w", flag, address, err))
	}
	return ip.String(), strconv.Itoa(port), strconv.Itoa(port + 1), nil
}

// checkAddresses refuses what cannot be listened on or told others.
func (o Options) checkAddresses() error {
	host := ""
	if o.Listen != "" {
		var port string
		var err error
		if host, port, err = net.SplitHostPort(o.Listen); err != nil || host == "" || !isPort(port) {
			return cli.Config(fmt.Errorf("--listen: %q is not HOST:PORT", o.Listen))
		}
		if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() && o.Advertise == "" {
			return cli.Config(fmt.Errorf("--listen %s: others cannot be told to come to %s; say where they reach this machine with --advertise HOST:PORT", o.Listen, host))
		}
	}
	if o.Advertise == "" {
		return nil
	}
	host, port, err := net.SplitHostPort(o.Advertise)
	if err != nil || host == "" || !isPort(port) {
		return cli.Config(fmt.Errorf("--advertise: %q is not HOST:PORT", o.Advertise))
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return cli.Config(fmt.Errorf("--advertise %s: nobody can come to %s; name an address of this machine that others reach", o.Advertise, host))
	}
	return nil
}

// isPort is for one that others have to know.
func isPort(text string) bool {
	port, err := strconv.ParseUint(text, 10, 16)
	return err == nil && port > 0
}

// seed is an address to find the others at, if it is not this process.
func (a *addresses) seed(master string) {
	if master != "" && master != a.gossip.reached(a.gossip.listen) {
		a.seeds = []string{master}
	}
}

// explain adds to an error of listening what to do about a port that is another's, or an
// address that is.
func (o Options) explain(err error) error {
	if errors.Is(err, syscall.EADDRNOTAVAIL) && o.Listen != "" {
		return fmt.Errorf("%w: this machine has no such address; give --listen one that it has, and --advertise the one that others use", err)
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return err
	}
	where := "MASTER_PORT"
	switch {
	case o.Listen != "":
		where = "--listen"
	case o.Advertise != "":
		where = "--advertise"
	}
	return fmt.Errorf("%w: another run may hold it, or an earlier one that has not ended; choose another port with %s, the same for all workers", err, where)
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
