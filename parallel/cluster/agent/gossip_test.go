package agent

import (
	"net"
	"sync"
	"testing"
	"time"
)

func TestCoordinates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"w":"0","p":"a","n":"127.0.0.1:9","t":3}`:                "127.0.0.1:9",
		`{"w":"0","p":"a","n":"[::1]:9","t":18446744073709551615}`: "[::1]:9",
		`{"w":"0","p":"a","n":"node-3.cluster:9","t":1}`:           "node-3.cluster:9",
		`{"w":"0","p":"a","n":"127.0.0.1:9"}`:                      "", // does not coordinate
		`{"n":"127.0.0.1","t":1}`:                                  "",
		`{"n":":9","t":1}`:                                         "",
		`{"n":"127.0.0.1:99999","t":1}`:                            "",
		`{"n":"127.0.0.1:9","t":-1}`:                               "",
		`{"n":["127.0.0.1:9"],"t":1}`:                              "",
		"":                                                         "", "null": "", "\x00\xff": "",
	} {
		if term, node, ok := coordinates([]byte(text)); node != want || ok != (want != "") || ok != (term != 0) {
			t.Errorf("%q: term %d at %q, %v", text, term, node, ok)
		}
	}
}

// TestGossipWhileItIsAsked: memberlist tells of a change with its lock held, in which what
// it calls waits for the gossip's.
func TestGossipWhileItIsAsked(t *testing.T) {
	t.Parallel()
	g, err := StartGossip(GossipOptions{Run: "run", Worker: "0", Process: "a", Node: "127.0.0.1:9", Address: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	var asked sync.WaitGroup
	told := make(chan struct{})
	asked.Go(func() {
		for {
			select {
			case <-told:
				return
			default:
				g.known()
				g.seed("127.0.0.1:9")
			}
		}
	})
	go func() {
		defer close(told)
		for term := uint64(1); term <= 1000; term++ {
			g.mu.Lock()
			g.meta.Term = term
			g.mu.Unlock()
			if err := g.list.UpdateNode(0); err != nil {
				t.Error(err)
			}
		}
	}()
	select {
	case <-told:
		asked.Wait()
		_ = g.Close()
	case <-time.After(time.Minute):
		t.Fatal("neither goes on: each waits for the other's lock")
	}
}

// FuzzCoordinates: what is taken for a coordinator is one that can be called.
func FuzzCoordinates(f *testing.F) {
	f.Add([]byte(`{"w":"0","p":"a","n":"127.0.0.1:9","t":3}`))
	f.Add([]byte(`{"n":":9","t":1}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		term, node, ok := coordinates(text)
		if !ok {
			return
		}
		if host, port, err := net.SplitHostPort(node); term == 0 || err != nil || host == "" || port == "" || len(text) > maxMeta {
			t.Errorf("%q: term %d at %q", text, term, node)
		}
	})
}
