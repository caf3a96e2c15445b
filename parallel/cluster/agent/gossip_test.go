package agent

import (
	"net"
	"testing"
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
