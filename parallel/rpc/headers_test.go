package rpc_test

import (
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"jambalaya/internal/pki"
	"jambalaya/parallel/rpc"
)

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
