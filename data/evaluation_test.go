package data

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"jambalaya/data/shard"
)

func TestEvaluationCoversEachTargetOnce(t *testing.T) {
	t.Parallel()
	c := openCorpus(t, testConfig(t, 16, writeTree(t, corpusFiles(200, 1))))
	for _, max := range []int64{0, 1, 15, 16, 17, 100} {
		e, err := c.Evaluation(max)
		if err != nil {
			t.Fatal(err)
		}
		held := c.sets[0].Split(shard.HeldOut)
		var stream []uint32
		for i := range held.Rows() {
			for j := range held.RowTokens(i) {
				stream = append(stream, held.Row(i).Token(j))
			}
		}
		want := stream[1:]
		if max > 0 {
			want = want[:max]
		}
		for _, rows := range []int{1, 3} {
			var got []uint32
			windows := int64(0)
			for b := range e.Batches(rows) {
				if b.First != windows || len(b.Inputs) != rows*16 {
					t.Fatalf("a batch of %d begins at window %d, not %d", len(b.Inputs), b.First, windows)
				}
				windows += int64(rows)
				for _, id := range b.Targets {
					if id != Ignored {
						got = append(got, uint32(id))
					}
				}
			}
			if !equal(got, want) {
				t.Fatalf("max %d, %d rows: got %d targets, want %d", max, rows, len(got), len(want))
			}
		}
		text := c.Tokenizer().Decode(want)
		if !bytes.Equal(e.Text(), text) || e.Bytes() != int64(len(text)) || e.Targets() != int64(len(want)) {
			t.Errorf("max %d: %d targets, %d bytes, text %.40q", max, e.Targets(), e.Bytes(), e.Text())
		}
	}
}

func equal(a, b []uint32) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestEvaluationSharesByWeight(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, 16, writeTree(t, corpusFiles(400, 1)), writeTree(t, corpusFiles(400, 2)))
	cfg.Sources[0].Weight = 3
	e, err := openCorpus(t, cfg).Evaluation(400)
	if err != nil {
		t.Fatal(err)
	}
	second := strings.Count(string(e.Text()), "of 2. ")
	if first := strings.Count(string(e.Text()), "of 1. "); e.Targets() != 400 || first < 2*second || second == 0 {
		t.Errorf("%d and %d sentences of %d targets", first, second, e.Targets())
	}
}

func TestNoHeldOut(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, 4, writeTree(t, map[string]string{"a.txt": "all there is"}))
	if _, err := openCorpus(t, cfg).Evaluation(0); !errors.Is(err, ErrNoHeldOut) {
		t.Errorf("got %v", err)
	}
}
