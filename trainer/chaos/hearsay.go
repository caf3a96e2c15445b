package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"jambalaya/internal/pki"
	"jambalaya/internal/prng"
	"jambalaya/parallel/cluster/agent"
)

// hostileGossip talks to a run's gossip without its key. Another process, with the key,
// watches who the members are.
func hostileGossip(ctx context.Context, l *lab) (result, error) {
	g, err := l.startGuarded(ctx)
	if err != nil {
		return result{}, err
	}
	defer g.stopAll()
	w, err := g.startWitness(ctx)
	if err != nil {
		return result{}, err
	}
	defer w.gossip.Close()
	stop := w.watch()
	strangers, err := g.impostors(ctx)
	if err != nil {
		stop()
		return result{}, err
	}
	sent, err := g.noise(ctx, l.chance(), int64(l.reps(64, 1024))<<20)
	looks, changes := stop()
	figure := fmt.Sprintf("%d strangers, %d MiB of garbage, %d bombs: %d membership changes in %d looks", strangers, sent>>20, len(gossipBombs()), changes, looks)
	if err != nil {
		return result{figure: figure}, err
	}
	if err := g.undisturbed(ctx); err != nil {
		return result{figure: figure}, err
	}
	return result{figure + "; the run went on in its generation", changes == 0}, nil
}

// gossipAs is how a worker of the run would gossip.
func (g *guarded) gossipAs(name string, keys func() ([][]byte, error)) agent.GossipOptions {
	return agent.GossipOptions{Run: g.lease.Run, Worker: name, Process: "0", Address: "127.0.0.1:0", Seeds: []string{g.lease.Gossip}, Node: "127.0.0.1:9", Keys: keys}
}

// witness looks at the members all the time.
type witness struct {
	gossip *agent.Gossip
	want   []string
}

// startWitness gossips with the run, with its key, and finds both workers.
func (g *guarded) startWitness(ctx context.Context) (*witness, error) {
	creds, err := pki.Open(g.certs, "worker-0")
	if err != nil {
		return nil, err
	}
	gossip, err := agent.StartGossip(g.gossipAs("witness", creds.GossipKeys))
	if err != nil {
		return nil, err
	}
	w := &witness{gossip: gossip}
	if _, err := g.until(ctx, "the witness does not find the others", func() (bool, error) {
		w.want = w.members()
		return len(w.want) == 3, nil
	}); err != nil {
		gossip.Close()
		return nil, err
	}
	return w, nil
}

func (w *witness) members() []string {
	return slices.Sorted(slices.Values(w.gossip.Members()))
}

// watch counts looks, and changes from one look to the next, until it is stopped.
func (w *witness) watch() (stop func() (looks, changes int)) {
	end := make(chan struct{})
	ended := make(chan [2]int)
	go func() {
		var seen [2]int
		for last := w.want; ; {
			now := w.members()
			seen[0]++
			if !slices.Equal(now, last) {
				last = now
				seen[1]++
			}
			select {
			case <-end:
				ended <- seen
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	}()
	return func() (int, int) {
		close(end)
		seen := <-ended
		return seen[0], seen[1]
	}
}

// impostors join as workers do, but without the key, with another, and with the name of
// a member. None may find anybody.
func (g *guarded) impostors(ctx context.Context) (int, error) {
	wrong := func() ([][]byte, error) { return [][]byte{make([]byte, 32)}, nil }
	all := []agent.GossipOptions{g.gossipAs("keyless", nil), g.gossipAs("otherkey", wrong)}
	for _, keys := range []func() ([][]byte, error){nil, wrong} {
		twin := g.gossipAs("twin", keys)
		twin.Worker, twin.Process, _ = strings.Cut(g.lease.Holder, "-")
		all = append(all, twin)
	}
	var started []*agent.Gossip
	defer func() {
		for _, s := range started {
			s.Close()
		}
	}()
	for _, o := range all {
		s, err := agent.StartGossip(o)
		if err != nil {
			return 0, err
		}
		started = append(started, s)
	}
	if err := pause(ctx, 2*time.Second); err != nil { // each tries several times
		return 0, err
	}
	for i, s := range started {
		if found := s.Members(); len(found) != 1 {
			return 0, fmt.Errorf("stranger %d has found %v", i, found)
		}
	}
	return len(all), nil
}

// gossipBombs are packets that declare far more than there is, in the format of the
// gossip: a kind, and for an encrypted one its size.
func gossipBombs() [][]byte {
	encrypted := binary.BigEndian.AppendUint32([]byte{10}, 1<<32-1)
	compressed := append([]byte{9, 0x82, 0xa4, 'A', 'l', 'g', 'o', 0, 0xa3, 'B', 'u', 'f', 0xc6}, 0xff, 0xff, 0xff, 0xff)
	compound := append([]byte{7, 255}, make([]byte, 512)...)
	pushPull := []byte{6, 0x83, 0xa5, 'N', 'o', 'd', 'e', 's', 0xce, 0x7f, 0xff, 0xff, 0xff}
	return [][]byte{encrypted, compressed, compound, pushPull, {12, 0, 0, 0, 0}, {244, 255}, {244, 0}}
}

// noise sends bombs and random bytes, by TCP and UDP, with and without the label of the
// run, and returns how much.
func (g *guarded) noise(ctx context.Context, chance *prng.Rand, total int64) (int64, error) {
	label := append([]byte{244, byte(len(g.lease.Run))}, g.lease.Run...)
	for _, bomb := range gossipBombs() {
		for _, network := range []string{"tcp", "udp"} {
			for _, head := range [][]byte{nil, label} {
				if _, err := g.throw(network, append(slices.Clone(head), bomb...)); err != nil {
					return 0, err
				}
			}
		}
	}
	block := make([]byte, 60<<10)
	sent := int64(0)
	for sent < total {
		if ctx.Err() != nil {
			return sent, ctx.Err()
		}
		for i := 0; i < len(block); i += 8 {
			binary.LittleEndian.PutUint64(block[i:], chance.Uint64())
		}
		block[0] = byte(chance.Uint64() % 16) // a kind that there is, mostly
		for _, network := range []string{"tcp", "udp"} {
			for _, text := range [][]byte{block, append(slices.Clone(label), block[:40<<10]...)} {
				n, err := g.throw(network, text)
				if err != nil {
					return sent, err
				}
				sent += n
			}
		}
	}
	return sent, nil
}

// throw sends bytes to the gossip of the coordinator's process, which may hang up before
// it has read them.
func (g *guarded) throw(network string, text []byte) (int64, error) {
	conn, err := net.DialTimeout(network, g.lease.Gossip, intrusionTime)
	if err != nil {
		return 0, fmt.Errorf("the gossip does not answer any more: %w", err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(intrusionTime))
	n, err := conn.Write(text)
	var hungUp *net.OpError
	if err != nil && !errors.As(err, &hungUp) {
		return int64(n), err
	}
	return int64(n), nil
}
