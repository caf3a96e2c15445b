package agent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"

	"jambalaya/parallel/cluster"
)

// Gossip is this process's part in the gossip of a run: it finds the coordinator, and
// has an early suspicion of who is dead. Neither decides anything: who coordinates is
// up to the lease, and who is lost to the coordinator.
type Gossip struct {
	list    *memberlist.Memberlist
	address string // where others find this process
	bind    GossipOptions
	ring    *memberlist.Keyring // nil without keys

	mu     sync.Mutex // is not held while memberlist is called, which calls back with its own lock held
	meta   meta
	last   meta // of who coordinates, by the latest term that was heard of
	seeds  map[string]bool
	learnt time.Time // when the first of the keys was seen first
	first  []byte
	agent  *agent
	closed chan struct{}
	once   sync.Once
}

// GossipOptions say where and with whom to gossip.
type GossipOptions struct {
	Run     string // gossip of another run is not heard
	Worker  string // name of the worker
	Process string // unique to this start
	Address string // to listen on, host:port; port 0 takes any
	// Advertise is the host:port at which others reach Address, an IP address; "": as it is.
	Advertise string
	From      string   // IP address that connections are made from; "": any
	Seeds     []string // of who is there already, host:port
	Node      string   // address of the process's node
	// Keys returns those to decrypt with, of which the first encrypts; it is asked again
	// now and then. Nil: no encryption, loopback only.
	Keys func() ([][]byte, error)
	// Plaintext allows gossip without keys on other networks.
	Plaintext bool
}

// meta is what a process says of itself.
type meta struct {
	Worker  string `json:"w"`
	Process string `json:"p"`
	Node    string `json:"n"`
	Term    uint64 `json:"t,omitempty"` // of the lease that it holds
}

// maxMeta is what memberlist sends; more makes it panic.
const maxMeta = memberlist.MetaMaxSize

// cause is what the network said, without the stages that memberlist names before it,
// which keep no error but its text.
func cause(err error) error {
	text := err.Error()
	if i := strings.LastIndex(text, ": bind: "); i >= 0 {
		text = text[i+len(": bind: "):]
	}
	if text == syscall.EADDRINUSE.Error() {
		return syscall.EADDRINUSE
	}
	return errors.New(text)
}

// StartGossip begins to gossip. Seeds that are not there yet are tried again. A port that
// another process has is syscall.EADDRINUSE.
func StartGossip(o GossipOptions) (*Gossip, error) {
	host, port, err := hostPort(o.Address)
	if err != nil {
		return nil, fmt.Errorf("gossip on %s: %w", o.Address, err)
	}
	if ip := net.ParseIP(host); o.Keys == nil && !o.Plaintext && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("gossip on %s: not a loopback address, and there is no key; make one with: train certs", o.Address)
	}
	g := &Gossip{bind: o, meta: meta{Worker: o.Worker, Process: o.Process, Node: o.Node}, seeds: map[string]bool{}, closed: make(chan struct{})}
	if n := len(g.NodeMeta(maxMeta)); n == 0 {
		return nil, fmt.Errorf("gossip: the names %q and %q are too long", o.Worker, o.Node)
	}
	c, err := g.config(host, port)
	if err != nil {
		return nil, err
	}
	if c.Transport, err = listen(host, port, o.From); err == nil {
		c.BindPort = c.Transport.(*outlet).GetAutoBindPort()
		if o.Advertise == "" {
			c.AdvertisePort = c.BindPort
		}
		if g.address, err = advertised(c); err == nil {
			g.list, err = memberlist.Create(c)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("gossip on %s: %w", o.Address, cause(err))
	}
	for _, s := range o.Seeds {
		g.seeds[s] = true
	}
	go g.rejoin()
	if g.ring != nil {
		g.first = g.ring.GetPrimaryKey()
		go g.follow()
	}
	return g, nil
}

// config is what memberlist is told, but for what the network tells first.
func (g *Gossip) config(host string, port int) (*memberlist.Config, error) {
	o, c := g.bind, memberlist.DefaultLANConfig()
	c.Name = o.Worker + "-" + o.Process
	c.BindAddr, c.BindPort, c.AdvertisePort = host, port, port
	if o.Advertise != "" {
		var err error
		if c.AdvertiseAddr, c.AdvertisePort, err = hostPort(o.Advertise); err != nil {
			return nil, fmt.Errorf("gossip, advertised as %s: %w", o.Advertise, err)
		}
	}
	c.Label = o.Run
	if err := g.openRing(); err != nil {
		return nil, fmt.Errorf("gossip keys: %w", err)
	}
	c.Keyring = g.ring
	// Slower than the heartbeats, so that it is advice about what those cannot see.
	c.ProbeInterval, c.ProbeTimeout = 500*time.Millisecond, 200*time.Millisecond
	c.SuspicionMult, c.SuspicionMaxTimeoutMult = 3, 2
	c.GossipInterval = 100 * time.Millisecond
	c.PushPullInterval = 10 * time.Second
	c.DeadNodeReclaimTime = time.Second
	c.Delegate, c.Events = g, g
	c.Logger = log.New(io.Discard, "", 0)
	return c, nil
}

func hostPort(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("port: %w", err)
	}
	return host, int(n), nil
}

// advertised is the address that memberlist will tell others. It is not asked for it later:
// what it returns of a node it may be writing to.
func advertised(c *memberlist.Config) (string, error) {
	ip, port, err := c.Transport.FinalAdvertiseAddr(c.AdvertiseAddr, c.AdvertisePort)
	return net.JoinHostPort(ip.String(), strconv.Itoa(port)), err
}

// Address is where others find this process.
func (g *Gossip) Address() string { return g.address }

// Members lists the workers that are believed alive, this one included.
func (g *Gossip) Members() []string {
	var names []string
	for _, n := range g.list.Members() {
		names = append(names, n.Name)
	}
	return names
}

// rejoin finds the seeds that are not there yet, and again those that were: after a
// mass restart nodes can stay dead for each other.
func (g *Gossip) rejoin() {
	wait := 100 * time.Millisecond
	for {
		for _, seed := range g.known() {
			_, _ = g.list.Join([]string{seed}) // it is tried again
		}
		if wait *= 2; g.list.NumMembers() > 1 || wait > 5*time.Second {
			wait = 5 * time.Second
		}
		timer := time.NewTimer(wait)
		select {
		case <-g.closed:
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// known lists the addresses to look for others at.
func (g *Gossip) known() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []string
	for s := range g.seeds {
		if s != g.address {
			list = append(list, s)
		}
	}
	return list
}

// seed adds an address to look for others at.
func (g *Gossip) seed(address string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	const most = 64
	if len(g.seeds) < most {
		g.seeds[address] = true
	}
}

// announce says that this process coordinates, with the term of its lease; 0: not.
func (g *Gossip) announce(term uint64) {
	g.mu.Lock()
	g.meta.Term = term
	g.mu.Unlock()
	go func() { _ = g.list.UpdateNode(time.Second) }() // advice may be late
}

// watch passes what gossip says on to an agent, until the returned function is called.
func (g *Gossip) watch(a *agent) func() {
	g.mu.Lock()
	g.agent = a
	last := g.last
	g.mu.Unlock()
	if last.Term > 0 {
		g.mail(func(a *agent) { a.found(last.Term, last.Node) })
	}
	return func() {
		g.mu.Lock()
		g.agent = nil
		g.mu.Unlock()
	}
}

// Close says goodbye and ends the gossip.
func (g *Gossip) Close() error {
	g.once.Do(func() { close(g.closed) })
	_ = g.list.Leave(500 * time.Millisecond) // the others will notice
	return g.list.Shutdown()
}

// heard passes on that a process coordinates. It must not block.
func (g *Gossip) heard(n *memberlist.Node) {
	if term, node, ok := coordinates(n.Meta); ok {
		g.mu.Lock()
		if term >= g.last.Term {
			g.last = meta{Node: node, Term: term}
		}
		g.mu.Unlock()
		g.mail(func(a *agent) { a.found(term, node) })
	}
}

// coordinates reads what a process says of itself: whether it coordinates, and where its
// node is. Anybody with the key may have written it.
func coordinates(text []byte) (term uint64, node string, ok bool) {
	var m meta
	if len(text) > maxMeta || json.Unmarshal(text, &m) != nil || m.Term == 0 {
		return 0, "", false
	}
	host, port, err := net.SplitHostPort(m.Node)
	if _, bad := strconv.ParseUint(port, 10, 16); err != nil || bad != nil || host == "" {
		return 0, "", false
	}
	return m.Term, m.Node, true
}

// mail posts to the agent if there is room: gossip is advice.
func (g *Gossip) mail(f func(*agent)) {
	g.mu.Lock()
	a := g.agent
	g.mu.Unlock()
	if a == nil {
		return
	}
	select {
	case a.mail <- func() { f(a) }:
	default:
	}
}

// NotifyJoin, NotifyUpdate and NotifyLeave are called by memberlist.
func (g *Gossip) NotifyJoin(n *memberlist.Node)   { g.heard(n) }
func (g *Gossip) NotifyUpdate(n *memberlist.Node) { g.heard(n) }

func (g *Gossip) NotifyLeave(n *memberlist.Node) {
	name := n.Name
	g.mail(func(a *agent) {
		for id := range a.sessions {
			if cluster.ProcessOf(id) == name {
				a.bossStep(cluster.Suspected{Who: id})
			}
		}
	})
}

// NodeMeta is called by memberlist for what this process says of itself.
func (g *Gossip) NodeMeta(limit int) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	b, err := json.Marshal(g.meta)
	if err != nil || len(b) > limit {
		return nil
	}
	return b
}

// The rest of memberlist's delegate: nothing but the meta data is shared.

func (g *Gossip) NotifyMsg([]byte)                  {}
func (g *Gossip) GetBroadcasts(_, _ int) [][]byte   { return nil }
func (g *Gossip) LocalState(bool) []byte            { return nil }
func (g *Gossip) MergeRemoteState(_ []byte, _ bool) {}
