package pki

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func mustMake(t testing.TB, dir string, p Plan) {
	t.Helper()
	if _, err := Make(dir, p); err != nil {
		t.Fatal(err)
	}
}

func mustOpen(t testing.TB, dir, file string) *Credentials {
	t.Helper()
	c, err := Open(dir, file)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// handshake connects a client to a server and returns what each side says. Data has
// to pass before a TLS 1.3 client knows that it was accepted.
func handshake(t *testing.T, client, server *tls.Config) (clientErr, serverErr error) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	accepted := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			accepted <- err
			return
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(10 * time.Second))
		s := tls.Server(conn, server)
		if err = s.Handshake(); err == nil {
			_, err = s.Write([]byte("x"))
		}
		accepted <- err
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(10 * time.Second))
	c := tls.Client(conn, client)
	if clientErr = c.Handshake(); clientErr == nil {
		_, clientErr = c.Read(make([]byte, 1))
	}
	conn.Close()
	return clientErr, <-accepted
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	dir, other, old := t.TempDir(), t.TempDir(), t.TempDir()
	mustMake(t, dir, Plan{Workers: []string{"0", "1"}, Watcher: true})
	mustMake(t, other, Plan{Workers: []string{"0"}})
	mustMake(t, old, Plan{Workers: []string{"0"}, Days: 2})
	server := mustOpen(t, dir, "worker-0")
	worker := mustOpen(t, dir, "worker-1")
	expired := mustOpen(t, old, "worker-0")
	elsewhere := mustOpen(t, old, "worker-0")
	elsewhere.now = func() time.Time { return time.Now().AddDate(0, 0, 3) }
	bare := &tls.Config{InsecureSkipVerify: true}
	downgraded := worker.TLS(Worker)
	downgraded.MinVersion, downgraded.MaxVersion = tls.VersionTLS12, tls.VersionTLS12
	for _, c := range []struct {
		name           string
		client, server *tls.Config
		fault          string // "" if they understand each other
	}{
		{"workers", worker.TLS(Worker), server.TLS(Worker), ""},
		{"coordinator", worker.TLS(Coordinator), server.TLS(Worker), ""},
		{"watcher", mustOpen(t, dir, "watcher").TLS(Coordinator), server.TLS(Worker, Watcher), ""},
		{"watcher as worker", mustOpen(t, dir, "watcher").TLS(Coordinator), server.TLS(Worker), "of a watcher of any name, not of a [worker]"},
		{"server of another role", worker.TLS(Watcher), server.TLS(Worker), "worker+coordinator 0, not of a [watcher]"},
		{"other authority", mustOpen(t, other, "worker-0").TLS(Worker), server.TLS(Worker), "unknown authority"},
		{"expired", expired.TLS(Worker), elsewhere.TLS(Worker), "has expired"},
		{"no certificate", bare, server.TLS(Worker), "didn't provide a certificate"},
		{"TLS 1.2", downgraded, server.TLS(Worker), "unsupported versions"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			clientErr, serverErr := handshake(t, c.client, c.server)
			if c.fault == "" {
				if clientErr != nil || serverErr != nil {
					t.Errorf("client %v, server %v", clientErr, serverErr)
				}
				return
			}
			if clientErr == nil {
				t.Error("the client got data")
			}
			if both := errors.Join(clientErr, serverErr).Error(); !strings.Contains(both, c.fault) {
				t.Errorf("neither says %q: %s", c.fault, both)
			}
		})
	}
}

// TestRotation changes the authority under credentials in use, in the order that the
// documentation gives, and wants every pair of old and new to understand each other
// until the old authority is retired.
func TestRotation(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	plan := Plan{Workers: []string{"0", "1"}}
	mustMake(t, dir, plan)
	now := time.Now()
	clock := func() time.Time { now = now.Add(2 * time.Second); return now }
	stays, follows := mustOpen(t, dir, "worker-0"), mustOpen(t, dir, "worker-1")
	follows.now = clock
	before := stays.cert.Leaf.SerialNumber
	talk := func(want bool) {
		t.Helper()
		for _, pair := range [][2]*Credentials{{stays, follows}, {follows, stays}} {
			clientErr, serverErr := handshake(t, pair[0].TLS(Worker), pair[1].TLS(Worker))
			if (clientErr == nil && serverErr == nil) != want {
				t.Fatalf("client %v, server %v", clientErr, serverErr)
			}
		}
	}
	talk(true)
	plan.NewAuthority, plan.NewGossipKey = true, true
	mustMake(t, dir, plan)
	stays.now = clock // it looks again
	talk(true)
	if cert, _ := stays.current(); cert.Leaf.SerialNumber.Cmp(before) == 0 {
		t.Error("the new certificate is not in use")
	}
	keys, err := stays.GossipKeys()
	if err != nil || len(keys) != 2 {
		t.Errorf("%d gossip keys, %v", len(keys), err)
	}
	mustMake(t, dir, Plan{Workers: []string{"0", "1"}, Retire: true})
	talk(true)
	if keys, err := stays.GossipKeys(); err != nil || len(keys) != 1 {
		t.Errorf("%d gossip keys, %v", len(keys), err)
	}
	// Files that cannot be read leave what is there in use.
	if err := os.WriteFile(filepath.Join(dir, authorityFile), []byte("torn"), 0o666); err != nil {
		t.Fatal(err)
	}
	talk(true)
	if stays.Fault() == nil {
		t.Error("a torn file is no fault")
	}
}

// TestRetired: after Retire, certificates of the old authority are refused.
func TestRetired(t *testing.T) {
	t.Parallel()
	dir, kept := t.TempDir(), t.TempDir()
	mustMake(t, dir, Plan{Workers: []string{"0"}})
	for _, f := range []string{"worker-0.pem", "worker-0.key", "ca.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, f))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(kept, f), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	old := mustOpen(t, kept, "worker-0")
	mustMake(t, dir, Plan{Workers: []string{"0"}, NewAuthority: true, Retire: true})
	clientErr, serverErr := handshake(t, old.TLS(Worker), mustOpen(t, dir, "worker-0").TLS(Worker))
	if clientErr == nil || !strings.Contains(errors.Join(clientErr, serverErr).Error(), "unknown authority") {
		t.Errorf("client %v, server %v", clientErr, serverErr)
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	entries, err := Make(dir, Plan{Workers: []string{"0", ""}, Watcher: true})
	if err != nil || len(entries) != 3 || entries[1].File != "worker" {
		t.Fatalf("%v, %v", entries, err)
	}
	for _, name := range []string{"ca.key", "worker-0.key", "worker.key", "watcher.key", "gossip.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
	if id := mustOpen(t, dir, "worker").Identity(); !id.Named("7") || !id.Is(Worker) || id.Is(Watcher) {
		t.Error(id)
	}
	if id := mustOpen(t, dir, "worker-0").Identity(); id.Named("7") || !id.Named("0") || !id.Is(Coordinator) {
		t.Error(id)
	}
	left, err := os.ReadDir(dir)
	if err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), ".tmp") }) {
		t.Errorf("%v, %v", left, err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, file string
		text       string // "": removed
		want       string
	}{
		{"no certificate", "worker-0.pem", "", "worker-0.pem: no such file or directory; make it with: train certs"},
		{"no key", "worker-0.key", "", "private key: open "},
		{"no authority", "ca.pem", "", "authority: open "},
		{"certificate is no PEM", "worker-0.pem", "hello", "it holds none; make them with: train certs"},
		{"key is no PEM", "worker-0.key", "hello", "it holds no PRIVATE KEY"},
		{"key of another kind", "worker-0.key", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "it holds no PRIVATE KEY"},
		{"huge", "worker-0.pem", strings.Repeat("x", maxFile+1), "it is not a regular file of at most 256 KiB"},
		{"key of another", "worker-0.key", "swap", "it is not the certificate of the key in worker-0.key"},
		{"authority of another", "ca.pem", "swap", "unknown authority"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, other := t.TempDir(), t.TempDir()
			mustMake(t, dir, Plan{Workers: []string{"0"}})
			mustMake(t, other, Plan{Workers: []string{"0"}})
			text := []byte(c.text)
			if c.text == "swap" {
				var err error
				if text, err = os.ReadFile(filepath.Join(other, c.file)); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Remove(filepath.Join(dir, c.file)); err != nil {
				t.Fatal(err)
			}
			if c.text != "" {
				if err := os.WriteFile(filepath.Join(dir, c.file), text, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := Open(dir, "worker-0")
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
	for _, name := range []string{"../x", "A", "a/b", strings.Repeat("x", 64), " "} {
		if _, err := Make(t.TempDir(), Plan{Workers: []string{name}}); err == nil {
			t.Errorf("worker %q is accepted", name)
		}
	}
}

func TestGossipKeys(t *testing.T) {
	t.Parallel()
	good := strings.Repeat("ab", 32)
	for text, want := range map[string]string{
		good + "\n\n" + good:                   "",
		"":                                     "it is empty",
		good[2:]:                               "line 1 is not 64 hexadecimal digits",
		good + "\n" + good[2:] + "zz":          "line 2 is not 64 hexadecimal digits",
		strings.Repeat(good+"\n", 9):           "more than 8 keys",
		good + "\x00" + strings.Repeat("a", 9): "line 1",
	} {
		keys, err := parseGossipKeys("gossip.key", []byte(text))
		if want == "" && (err != nil || len(keys) != 2 || len(keys[0]) != 32) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzFiles(f *testing.F) {
	dir := f.TempDir()
	mustMake(f, dir, Plan{Workers: []string{"0"}})
	for _, name := range []string{"worker-0.pem", "worker-0.key", "gossip.key"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if certs, err := parseCertificates("x", text); err == nil {
			if id, err := IdentityOf(certs[0]); err == nil && len(id.Roles) == 0 {
				t.Error("an identity without a role")
			}
		}
		_, _ = parseKey("x", text)
		if keys, err := parseGossipKeys("x", text); err == nil && len(keys) == 0 {
			t.Error("no keys, no error")
		}
	})
}
