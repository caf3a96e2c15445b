package rpc_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"jambalaya/internal/pki"
	"jambalaya/parallel"
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

// rawCall sends a request as no client of gRPC would, and returns its headers.
func rawCall(t *testing.T, address string, config *tls.Config, fields ...hpack.HeaderField) map[string]string {
	t.Helper()
	var conn net.Conn
	var err error
	if config != nil {
		conn, err = tls.Dial("tcp", address, config)
	} else {
		conn, err = net.Dial("tcp", address)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		t.Fatal(err)
	}
	framer := http2.NewFramer(conn, conn)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	if err := writeFields(framer, fields); err != nil {
		// Headers that are too large may be refused before all of them are sent.
		return map[string]string{"connection": err.Error()}
	}
	return answer(framer)
}

// writeFields writes the headers of a request, in as many frames as they need.
func writeFields(framer *http2.Framer, fields []hpack.HeaderField) error {
	var block strings.Builder
	encoder := hpack.NewEncoder(&block)
	for _, f := range fields {
		if err := encoder.WriteField(f); err != nil {
			return err
		}
	}
	const most = 16 << 10 // bytes of a frame
	text := block.String()
	part, rest := text[:min(len(text), most)], text[min(len(text), most):]
	err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte(part), EndHeaders: rest == "", EndStream: true})
	for rest != "" && err == nil {
		part, rest = rest[:min(len(rest), most)], rest[min(len(rest), most):]
		err = framer.WriteContinuation(1, rest == "", []byte(part))
	}
	return err
}

// answer reads the headers of the answer, or how there was none.
func answer(framer *http2.Framer) map[string]string {
	got := map[string]string{}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			got["connection"] = err.Error()
			return got
		}
		switch f := frame.(type) {
		case *http2.MetaHeadersFrame:
			for _, h := range f.Fields {
				got[h.Name] = h.Value
			}
			if f.StreamEnded() {
				return got
			}
		case *http2.RSTStreamFrame:
			got["reset"] = f.ErrCode.String()
			return got
		case *http2.GoAwayFrame:
			got["goaway"] = f.ErrCode.String()
			return got
		}
	}
}

func request(path string, more ...hpack.HeaderField) []hpack.HeaderField {
	return append([]hpack.HeaderField{{Name: ":method", Value: "POST"}, {Name: ":scheme", Value: "http"}, {Name: ":path", Value: path},
		{Name: ":authority", Value: "x"}, {Name: "content-type", Value: "application/grpc"}, {Name: "te", Value: "trailers"}}, more...)
}

// TestPaths: methods that do not exist, and paths that are none, are refused with a
// line that says so. A path without its first slash once passed by authorization.
func TestPaths(t *testing.T) {
	t.Parallel()
	dir := makeCertificates(t, pki.Plan{Workers: []string{"0"}, Watcher: true})
	secure := listen(t, rpc.Options{Credentials: openCredentials(t, dir, "worker-0")})
	open := listen(t, rpc.Options{})
	watcher := openCredentials(t, dir, "watcher").TLS(pki.Worker)
	for _, c := range []struct{ path, want string }{
		{"jambalaya.Ranks/Hello", "malformed method name"},
		{"jambalaya.Ranks/Stream", "malformed method name"},
		{"/jambalaya.Ranks/", "no method"},
		{"/jambalaya.Ranks/Hello/", "no method"},
		{"/jambalaya.Ranks//Hello", "no method"},
		{"//jambalaya.Ranks/Hello", "no method"},
		{"/jambalaya.Ranks/hello", "no method"},
		{"/JAMBALAYA.Ranks/Hello", "no method"},
		{"/jambalaya.Ranks/../Ranks/Hello", "no method"},
		{"/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "no method"},
		{"/grpc.health.v1.Health/Check", "no method"},
		{"/debug/pprof/", "no method"},
		{"/", "malformed method name"},
	} {
		for name, got := range map[string]map[string]string{
			"plain": rawCall(t, open.Addr(), nil, request(c.path)...),
			"TLS":   rawCall(t, secure.Addr(), watcher, request(c.path)...),
		} {
			if status := got["grpc-status"]; (status != "7" && status != "12") || !strings.Contains(got["grpc-message"], c.want) {
				t.Errorf("%s %q: got %v, want %q", name, c.path, got, c.want)
			}
		}
	}
	// The right path and the wrong role.
	for _, path := range []string{"/jambalaya.Ranks/Hello", "/jambalaya.Ranks/Abort", "/jambalaya.Ranks/Stream"} {
		if got := rawCall(t, secure.Addr(), watcher, request(path)...); got["grpc-status"] != "7" || !strings.Contains(got["grpc-message"], "may not call "+path) {
			t.Errorf("%s as a watcher: %v", path, got)
		}
	}
}

// TestHeaders: a header list above the limit ends the stream, or the connection, and
// not the node.
func TestHeaders(t *testing.T) {
	t.Parallel()
	node := listen(t, rpc.Options{})
	big := make([]hpack.HeaderField, 64)
	for i := range big {
		big[i] = hpack.HeaderField{Name: "x-" + strings.Repeat("a", i+1), Value: strings.Repeat("v", 1<<10)}
	}
	if got := rawCall(t, node.Addr(), nil, request("/jambalaya.Ranks/Hello", big...)...); got["reset"] == "" && got["goaway"] == "" && got["connection"] == "" && got["grpc-status"] == "" {
		t.Errorf("got %v", got)
	} else if got["grpc-status"] == "0" {
		t.Errorf("accepted: %v", got)
	}
	if got := rawCall(t, node.Addr(), nil, request("/jambalaya.Ranks/Hello")...); got["grpc-status"] != "13" {
		t.Errorf("afterwards: %v", got)
	}
}

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
