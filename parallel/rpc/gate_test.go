package rpc_test

import (
	"context"
	"net"
	"testing"
	"time"

	"jambalaya/internal/pki"
	"jambalaya/parallel"
	"jambalaya/parallel/rpc"
)

// flood opens connections to an address, of which it keeps 500, until the returned
// function is called: it tells how many were open then.
func flood(address string) (stop func() int) {
	quit, ended := make(chan struct{}), make(chan int)
	go func() {
		var held []net.Conn
		for {
			select {
			case <-quit:
				for _, c := range held {
					c.Close()
				}
				ended <- len(held)
				return
			default:
			}
			if c, err := net.Dial("tcp", address); err == nil {
				if held = append(held, c); len(held) > 500 {
					held[0].Close()
					held = held[1:]
				}
			}
		}
	}()
	return func() int {
		close(quit)
		return <-ended
	}
}

// TestCloseWithStrangers: who has said nothing yet does not hold up the end of a node.
func TestCloseWithStrangers(t *testing.T) {
	t.Parallel()
	dir := makeCertificates(t, pki.Plan{Workers: []string{"0"}})
	node, err := rpc.Listen("127.0.0.1:0", rpc.Options{Credentials: openCredentials(t, dir, "worker-0")})
	if err != nil {
		t.Fatal(err)
	}
	for range 8 {
		c, err := net.Dial("tcp", node.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	// A call that is answered comes after them.
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	node.OnSession(func(*rpc.Session) {})
	s, err := listen(t, rpc.Options{Credentials: openCredentials(t, dir, "worker-0")}).Open(ctx, node.Addr())
	if err != nil {
		t.Fatal(err)
	}
	s.Break()
	start := time.Now()
	if err := node.Close(); err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it takes %v to close", took)
	}
}

// TestFlood: while strangers knock without end, ranks join and compute.
func TestFlood(t *testing.T) {
	t.Parallel()
	dir := makeCertificates(t, pki.Plan{Workers: []string{"0", "1"}})
	nodes := []*rpc.Node{listen(t, rpc.Options{Credentials: openCredentials(t, dir, "worker-0")}), listen(t, rpc.Options{Credentials: openCredentials(t, dir, "worker-1")})}
	addresses := []string{nodes[0].Addr(), nodes[1].Addr()}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	strangers := flood(addresses[0])
	done := make(chan error, 2)
	for rank, node := range nodes {
		go func() {
			done <- func() error {
				transport, err := node.Join(ctx, identity, rank, addresses)
				if err != nil {
					return err
				}
				g, err := parallel.NewGroup(transport, "all", []int{0, 1}, parallel.GroupOptions{})
				if err != nil {
					return err
				}
				x := []float32{1, 2, 3}
				for step := range int64(100) {
					if err := g.AllReduce(ctx, parallel.Op{Step: step, Name: "x"}, x); err != nil {
						return err
					}
				}
				return nil
			}()
		}()
	}
	for range nodes {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if n := strangers(); n < 100 {
		t.Logf("only %d strangers", n)
	}
}
