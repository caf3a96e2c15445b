package data

import (
	"errors"
	"slices"
	"testing"

	"jambalaya/data/shard"
)

// TestEpochs reads the streams of two sources over several epochs: each document of
// a source once an epoch, whole, in another order each time.
func TestEpochs(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, 7, writeTree(t, corpusFiles(150, 1)), writeTree(t, corpusFiles(90, 2)))
	cfg.Sources[0].Weight = 3
	c := openCorpus(t, cfg)
	x := openIndex(t, c, 5)
	windows := []map[int64][]int32{{}, {}} // of each source
	for k := range int64(40_000) {
		source, n := x.mix.at(k)
		b := sample(x, k)
		w := x.streams[source].window(n, x.SequenceLength())
		if windows[source][w] != nil {
			t.Fatalf("sample %d is window %d of source %d, which has been dealt out", k, w, source)
		}
		windows[source][w] = append([]int32{b.Inputs[0]}, b.Targets...)
		checkRow(t, b)
	}
	for i, set := range c.sets {
		checkStream(t, set.Split(shard.Train), join(t, windows[i]))
	}
}

// join puts windows back into the stream that they were cut from, up to the first
// one that has not been dealt out.
func join(t *testing.T, windows map[int64][]int32) (stream []int32) {
	t.Helper()
	moved := 0
	for w := int64(0); windows[w] != nil; w++ {
		if len(stream) == 0 {
			stream = append(stream, windows[w][0])
		} else if stream[len(stream)-1] != windows[w][0] {
			t.Fatalf("window %d does not go on where the one before it ends", w)
		}
		stream = append(stream, windows[w][1:]...)
		moved++
	}
	if moved < len(windows)/2 {
		t.Fatalf("of %d windows only the first %d are complete", len(windows), moved)
	}
	return stream
}

// checkRow checks inputs against targets and documents.
func checkRow(t *testing.T, b Batch) {
	t.Helper()
	if !slices.Equal(b.Inputs[1:], b.Targets[:len(b.Targets)-1]) {
		t.Fatalf("sample %d: targets %v do not follow inputs %v", b.First, b.Targets, b.Inputs)
	}
	document := int32(0)
	for i, id := range b.Inputs {
		if id == 256 && i > 0 {
			document++
		}
		if b.Docs[i] != document {
			t.Fatalf("sample %d: %v has documents %v", b.First, b.Inputs, b.Docs)
		}
	}
}

// checkStream cuts a stream into documents and compares whole epochs with the split.
func checkStream(t *testing.T, split *shard.Split, stream []int32) {
	t.Helper()
	want := map[string]int{}
	for i := range split.Rows() {
		want[string(bytesOf(split.Row(i)))]++
	}
	var orders []string
	for epoch := range int64(len(stream)) / split.Tokens() {
		part := stream[epoch*split.Tokens() : (epoch+1)*split.Tokens()]
		got, order := map[string]int{}, ""
		for start := 0; start < len(part); {
			end := start + 1
			for end < len(part) && part[end] != 256 {
				end++
			}
			var text []byte
			for _, id := range part[start+1 : end] {
				text = append(text, byte(id))
			}
			got[string(text)]++
			order += string(text)
			start = end
		}
		for text, n := range want {
			if got[text] != n {
				t.Fatalf("epoch %d has %q %d times, not %d", epoch, text, got[text], n)
			}
		}
		if slices.Contains(orders, order) {
			t.Fatalf("epoch %d has the order of an earlier one", epoch)
		}
		orders = append(orders, order)
	}
	if len(orders) < 3 {
		t.Fatalf("only %d epochs were read", len(orders))
	}
}

func bytesOf(r shard.Row) (text []byte) {
	for i := 1; i < r.Len(); i++ {
		text = append(text, byte(r.Token(i)))
	}
	return text
}

func TestIndexIsPure(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, corpusFiles(150, 1))
	cfg := testConfig(t, 16, dir)
	a, b := openIndex(t, openCorpus(t, cfg), 1), openIndex(t, openCorpus(t, cfg), 1)
	if a.Hash() != b.Hash() {
		t.Error("two indexes of the same have two hashes")
	}
	ks := []int64{0, 1, 977, 5, 1 << 20, 976, 978, 1<<20 + 1, 2}
	for _, k := range ks { // in another order, so that nothing depends on what came before
		want := sample(a, k)
		for _, other := range ks {
			sample(b, other)
		}
		if got := sample(b, k); !slices.Equal(got.Inputs, want.Inputs) || !slices.Equal(got.Targets, want.Targets) {
			t.Errorf("sample %d differs", k)
		}
	}
	other := openIndex(t, openCorpus(t, cfg), 2)
	if other.Hash() == a.Hash() || slices.Equal(sample(other, 0).Inputs, sample(a, 0).Inputs) {
		t.Error("another seed has the same order")
	}
	cfg.SequenceLength = 17
	if openIndex(t, openCorpus(t, cfg), 1).Hash() == a.Hash() {
		t.Error("another sequence length has the same hash")
	}
}

// TestGolden holds the order that checkpoints depend on: it never changes.
func TestGolden(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, 12, writeTree(t, corpusFiles(150, 1)))
	c := openCorpus(t, cfg)
	x := openIndex(t, c, 42)
	const wantHash = "e918811a2f53bbac57a5f29a87d5c8ad8e763d5c008e06b8b174fe9f67f274db"
	if got := x.Hash(); got != wantHash {
		t.Errorf("hash %s, want %s", got, wantHash)
	}
	for k, want := range map[int64]string{0: " 84 of 1. te", 7: " of 1. text ", 100_000: "1 of 1. text"} {
		var ids []uint32
		for _, id := range sample(x, k).Inputs {
			ids = append(ids, uint32(id))
		}
		if got := string(c.Tokenizer().Decode(ids)); got != want {
			t.Errorf("sample %d is %q, want %q", k, got, want)
		}
	}
}

func TestSequenceTooLong(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, 1<<20, writeTree(t, corpusFiles(30, 1)))
	if _, err := openCorpus(t, cfg).Index(1); !errors.Is(err, ErrTooShort) || !IsConfig(err) {
		t.Errorf("got %v", err)
	}
}
