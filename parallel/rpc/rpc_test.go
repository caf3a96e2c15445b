package rpc_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"jambalaya/parallel"
	"jambalaya/parallel/paralleltest"
	"jambalaya/parallel/rpc"
)

func TestMain(m *testing.M) {
	if address := os.Getenv(peerVariable); address != "" {
		if err := serve(address); err != nil {
			fmt.Fprintln(os.Stderr, "second process:", err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// world is a node for each rank.
type world struct {
	nodes     []*rpc.Node
	addresses []string
}

func newWorld(t *testing.T, size int) *world {
	t.Helper()
	w := &world{}
	for range size {
		node, err := rpc.Listen("127.0.0.1:0", rpc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := node.Close(); err != nil {
				t.Error(err)
			}
		})
		w.nodes = append(w.nodes, node)
		w.addresses = append(w.addresses, node.Addr())
	}
	return w
}

func (w *world) Join(ctx context.Context, id parallel.Identity, rank int) (parallel.Transport, error) {
	return w.nodes[rank].Join(ctx, id, rank, w.addresses)
}

func TestConformance(t *testing.T) {
	t.Parallel()
	paralleltest.Run(t, 4, func(t *testing.T, size int) paralleltest.World { return newWorld(t, size) })
}
