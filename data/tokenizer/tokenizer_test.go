package tokenizer

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

const sample = "package main\n\nimport \"fmt\"\n\nfunc main() {\n\t// Zähler läuft, 你好 😀\n\tfor i := 0; i < 12345; i++ {\n\t\tfmt.Println(\"i is\", i)  // two\n\t}\n}\r\n\x00\xff\xfe\xc3"

func trained(t testing.TB, text string, size int) *BPE {
	t.Helper()
	trainer := NewTrainer()
	trainer.Add([]byte(text))
	bpe, err := trainer.Train(size)
	if err != nil {
		t.Fatal(err)
	}
	return bpe
}

// TestConformance holds what every tokenizer promises.
func TestConformance(t *testing.T) {
	t.Parallel()
	all := []Tokenizer{trained(t, strings.Repeat(sample, 2), 300)}
	for _, name := range Names() {
		tok, err := Named(name)
		if err != nil {
			t.Fatal(err)
		}
		if tok.ID() != name {
			t.Errorf("%s calls itself %s", name, tok.ID())
		}
		all = append(all, tok)
	}
	hashes := map[string]string{}
	for _, tok := range all {
		if other, ok := hashes[tok.Hash()]; ok || len(tok.Hash()) != 64 {
			t.Errorf("%s has hash %q, as has %q", tok.ID(), tok.Hash(), other)
		}
		hashes[tok.Hash()] = tok.ID()
		if tok.Length(tok.EndOfText()) != 0 || int(tok.EndOfText()) >= tok.VocabSize() {
			t.Errorf("%s: end of text %d of %d has length %d", tok.ID(), tok.EndOfText(), tok.VocabSize(), tok.Length(tok.EndOfText()))
		}
		for _, text := range []string{"", "a", sample, strings.Repeat("\t", 300), "�", "\xf0\x9f\x98", "<|endoftext|>", "\xff a"} {
			checkRoundTrip(t, tok, []byte(text))
		}
		if got := tok.Decode([]uint32{tok.EndOfText(), uint32(tok.VocabSize()), ^uint32(0)}); len(got) != 0 {
			t.Errorf("%s: ids without text decode to %q", tok.ID(), got)
		}
	}
}

func checkRoundTrip(t *testing.T, tok Tokenizer, text []byte) {
	t.Helper()
	prefix := []uint32{7, 8}
	ids := tok.Encode(slices.Clone(prefix), text)
	if !slices.Equal(ids[:2], prefix) {
		t.Fatalf("%s: Encode changed what was there", tok.ID())
	}
	ids = ids[2:]
	if got := tok.Decode(ids); !bytes.Equal(got, text) {
		t.Fatalf("%s: %q came back as %q", tok.ID(), text, got)
	}
	n := 0
	for _, id := range ids {
		if int(id) >= tok.VocabSize() || id == tok.EndOfText() {
			t.Fatalf("%s: %q encodes to id %d", tok.ID(), text, id)
		}
		n += tok.Length(id)
	}
	if n != len(text) {
		t.Fatalf("%s: %q is %d bytes, its ids stand for %d", tok.ID(), text, len(text), n)
	}
}

// Ids published for these vocabularies.
func TestTiktokenKnownIDs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		want []uint32
	}{
		{"r50k_base", []uint32{31373, 995}},
		{"p50k_base", []uint32{31373, 995}},
		{"cl100k_base", []uint32{15339, 1917}},
		{"o200k_base", []uint32{24912, 2375}},
	} {
		tok, err := Named(c.name)
		if err != nil {
			t.Fatal(err)
		}
		if got := tok.Encode(nil, []byte("hello world")); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

func TestUnknownName(t *testing.T) {
	t.Parallel()
	if _, err := Named("bites"); !errors.Is(err, ErrUnknown) || !strings.Contains(err.Error(), "bytes") {
		t.Errorf("got %v", err)
	}
}

func TestValidPrefix(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{"": 0, "ab": 2, "ä\xff": 2, "�x": 4, "\xff": 0, "x\xf0\x9f\x98": 1} {
		if got := validPrefix([]byte(text)); got != want || !utf8.Valid([]byte(text)[:got]) {
			t.Errorf("%q: got %d, want %d", text, got, want)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	text := bytes.Repeat([]byte(sample), 200)
	for _, tok := range []Tokenizer{Bytes{}, trained(b, string(text), 320)} {
		b.Run(tok.ID(), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			var ids []uint32
			for b.Loop() {
				ids = tok.Encode(ids[:0], text)
			}
		})
	}
}
