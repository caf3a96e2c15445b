package rpc_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jambalaya/internal/pki"
	"jambalaya/parallel/paralleltest"
	"jambalaya/parallel/rpc"
)

func makeCertificates(t *testing.T, plan pki.Plan) string {
	t.Helper()
	dir := t.TempDir()
	if _, err := pki.Make(dir, plan); err != nil {
		t.Fatal(err)
	}
	return dir
}

func openCredentials(t *testing.T, dir, file string) *pki.Credentials {
	t.Helper()
	c, err := pki.Open(dir, file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func listen(t *testing.T, options rpc.Options) *rpc.Node {
	t.Helper()
	node, err := rpc.Listen("127.0.0.1:0", options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	return node
}

// TestConformanceTLS: encrypted ranks do all that others do.
func TestConformanceTLS(t *testing.T) {
	t.Parallel()
	dir := makeCertificates(t, pki.Plan{Workers: []string{"0", "1", "2", "3"}})
	paralleltest.Run(t, 4, func(t *testing.T, size int) paralleltest.World {
		w := &world{}
		var names []string
		for rank := range size {
			name := string(rune('0' + rank))
			node := listen(t, rpc.Options{Credentials: openCredentials(t, dir, "worker-"+name)})
			w.nodes, w.addresses, names = append(w.nodes, node), append(w.addresses, node.Addr()), append(names, name)
		}
		for _, node := range w.nodes {
			for generation := range uint64(10) {
				node.Expect(generation, names)
			}
		}
		return w
	})
}

// TestRefusalIsExplained: whichever side does not take the other's certificate, the one
// that called says which side it was, which certificate, and what to do.
func TestRefusalIsExplained(t *testing.T) {
	t.Parallel()
	dir := makeCertificates(t, pki.Plan{Workers: []string{"0"}})
	stranger := makeCertificates(t, pki.Plan{Workers: []string{"1"}})
	trusting := makeCertificates(t, pki.Plan{Workers: []string{"1"}})
	text, err := os.ReadFile(filepath.Join(dir, "ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.OpenFile(filepath.Join(trusting, "ca.pem"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.Write(text); err != nil {
		t.Fatal(err)
	}
	own.Close()
	server := listen(t, rpc.Options{Credentials: openCredentials(t, dir, "worker-0")})
	server.OnSession(func(*rpc.Session) {})
	for _, c := range []struct {
		dir  string
		want []string
	}{
		{stranger, []string{"this process, with the authority beside " + stranger + "/worker-1.pem, does not take the certificate of the one at " + server.Addr(), "unknown authority", "train certs"}},
		{trusting, []string{"the process at " + server.Addr() + " does not take the certificate of this one, " + trusting + "/worker-1.pem (worker+coordinator 1)", "bad certificate", "compare ca.pem", "train certs"}},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, err := listen(t, rpc.Options{Credentials: openCredentials(t, c.dir, "worker-1")}).Open(ctx, server.Addr())
		for _, want := range c.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%v does not say %q", err, want)
			}
		}
	}
}

// TestStrangers: who has not the certificate of the rank that it claims to be does not
// become it, and is told why.
func TestStrangers(t *testing.T) {
	t.Parallel()
	dir := makeCertificates(t, pki.Plan{Workers: []string{"0", "1", "2"}, Watcher: true})
	other := makeCertificates(t, pki.Plan{Workers: []string{"1"}})
	for _, c := range []struct {
		name    string
		options rpc.Options
		want    string
	}{
		{"the certificate of another worker", rpc.Options{Credentials: openCredentials(t, dir, "worker-2")}, "is worker 1, the certificate is of worker+coordinator 2"},
		{"another role", rpc.Options{Credentials: openCredentials(t, dir, "watcher")}, "a watcher of any name may not call /jambalaya.Ranks/Hello"},
		{"another authority", rpc.Options{Credentials: openCredentials(t, other, "worker-1")}, "unknown authority"},
		{"no certificate", rpc.Options{}, "rank 0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			server := listen(t, rpc.Options{Credentials: openCredentials(t, dir, "worker-0")})
			stranger := listen(t, c.options)
			server.Expect(1, []string{"0", "1"})
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			addresses := []string{server.Addr(), stranger.Addr()}
			joined := make(chan error, 1)
			go func() {
				_, err := server.Join(ctx, identity, 0, addresses)
				joined <- err
			}()
			_, err := stranger.Join(ctx, identity, 1, addresses)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("the stranger got %v, want %q", err, c.want)
			}
			if err := <-joined; err == nil {
				t.Error("the server has taken it for a rank")
			}
		})
	}
}

// TestPlaintextRefused: without certificates nothing leaves the machine, unless it is
// said that it may.
func TestPlaintextRefused(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"0.0.0.0:0", "[::]:0", ":0", "192.0.2.1:0"} {
		if _, err := rpc.Listen(address, rpc.Options{}); !errors.Is(err, rpc.ErrInsecure) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", address, err)
		}
	}
	node, err := rpc.Listen("0.0.0.0:0", rpc.Options{Plaintext: true})
	if err != nil {
		t.Fatal(err)
	}
	defer node.Close()
	local := listen(t, rpc.Options{})
	if _, err := local.Join(t.Context(), identity, 0, []string{local.Addr(), "192.0.2.1:9"}); !errors.Is(err, rpc.ErrInsecure) {
		t.Errorf("a rank elsewhere: %v", err)
	}
}
