package tokenizer

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jambalaya/data/internal/sealed"
)

func TestWords(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"func main() {\n\t\treturn", "func| main|()| {\n\t\t|return"},
		{"a.Name(x, &y)", "a|.Name|(x|,| &|y|)"},
		{"x := 12345\n", "x| :=| |123|45|\n"},
		{"int32 sha256", "int32| sha256"},
		{"a   b    = 1", "a|  | b|   | =| |1"},
		{"\n\n\t\tx  \n", "\n\n\t\t|x|  |\n"},
		{"\t\tif x", "\t\t|if| x"},
		{"// größe 你好", "//| größe| 你好"},
		{"  ", "  "},
		{"a ", "a| "},
		{"\x00\x01z", "\x00\x01|z"},
		{strings.Repeat("y", 70), strings.Repeat("y", 64) + "|yyyyyy"},
	} {
		var words []string
		for text := []byte(c.text); len(text) > 0; {
			n := nextWord(text)
			words = append(words, string(text[:n]))
			text = text[n:]
		}
		if got := strings.Join(words, "|"); got != c.want {
			t.Errorf("%q\n got %q\nwant %q", c.text, got, c.want)
		}
	}
}

// TestTrainAgainstReference compares with the definition of BPE, written naively.
func TestTrainAgainstReference(t *testing.T) {
	t.Parallel()
	text := strings.Repeat(sample, 3) + strings.Repeat("aaaa aaa banana ananas ", 9) + strings.Repeat("//////", 20)
	bpe := trained(t, text, 340)
	want := referenceTrain(text, 340-firstMerge)
	if !slices.Equal(bpe.merges, want) {
		t.Fatalf("got  %v\nwant %v", bpe.merges, want)
	}
	for _, s := range []string{text, sample, "aaaaaaa bananana", "////"} {
		if got, want := bpe.Encode(nil, []byte(s)), referenceEncode(want, s); !slices.Equal(got, want) {
			t.Errorf("%q\n got %v\nwant %v", s, got, want)
		}
	}
}

func wordsOf(text string) (words [][]uint32) {
	for len(text) > 0 {
		n := nextWord([]byte(text))
		var ids []uint32
		for i := range n {
			ids = append(ids, uint32(text[i]))
		}
		words, text = append(words, ids), text[n:]
	}
	return words
}

func replace(ids []uint32, p pair, id uint32) (out []uint32) {
	for i := 0; i < len(ids); i++ {
		if i+1 < len(ids) && ids[i] == p[0] && ids[i+1] == p[1] {
			out = append(out, id)
			i++
		} else {
			out = append(out, ids[i])
		}
	}
	return out
}

func referenceTrain(text string, n int) (merges []pair) {
	words := wordsOf(text)
	for len(merges) < n {
		counts := map[pair]int{}
		for _, w := range words {
			for i := range len(w) - 1 {
				counts[pair{w[i], w[i+1]}]++
			}
		}
		var best pair
		for p, c := range counts {
			if b := counts[best]; c > b || c == b && slices.Compare(p[:], best[:]) < 0 {
				best = p
			}
		}
		for i, w := range words {
			words[i] = replace(w, best, uint32(firstMerge+len(merges)))
		}
		merges = append(merges, best)
	}
	return merges
}

func referenceEncode(merges []pair, text string) (ids []uint32) {
	for _, w := range wordsOf(text) {
		for i, m := range merges {
			w = replace(w, m, uint32(firstMerge+i))
		}
		ids = append(ids, w...)
	}
	return ids
}

func TestTrainFaults(t *testing.T) {
	t.Parallel()
	trainer := NewTrainer()
	trainer.Add([]byte("ab ab"))
	for size, want := range map[int]string{257: "not between", 5000: "use more text"} {
		if _, err := trainer.Train(size); !errors.Is(err, ErrTraining) || !strings.Contains(err.Error(), want) {
			t.Errorf("%d: got %v", size, err)
		}
	}
}

func TestFile(t *testing.T) {
	t.Parallel()
	bpe := trained(t, strings.Repeat(sample, 3), 300)
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := os.WriteFile(path, bpe.File(), 0o666); err != nil {
		t.Fatal(err)
	}
	back, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if back.Hash() != bpe.Hash() || back.ID() != "bpe-300" || !slices.Equal(back.merges, bpe.merges) {
		t.Error("another tokenizer came back")
	}
	for i := range bpe.file { // every single flipped bit is found
		for bit := range 8 {
			damaged := bpe.File()
			damaged[i] ^= 1 << bit
			if b, err := Parse(damaged); err == nil && b.Hash() != bpe.Hash() {
				t.Fatalf("byte %d, bit %d: not found", i, bit)
			}
		}
	}
}

func TestFileFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		file bpeFile
		want string
	}{
		{bpeFile{2, wordRule, nil}, "format version 2"},
		{bpeFile{1, "other", nil}, `rule "other"`},
		{bpeFile{1, wordRule, []uint32{97}}, "do not make a list"},
		{bpeFile{1, wordRule, []uint32{97, 257}}, "merge 0 joins ids 97 and 257"},
		{bpeFile{1, wordRule, []uint32{256, 97}}, "do not come before"},
		{bpeFile{1, wordRule, []uint32{97, 97, 97, 97}}, "the same ids"},
		{bpeFile{1, wordRule, []uint32{97, 97, 257, 257, 258, 258, 259, 259, 260, 260, 261, 261, 262, 262}}, "128 bytes"},
	} {
		data, _, err := sealed.Marshal(c.file)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Parse(data); !errors.Is(err, ErrFile) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: got %v, want %s", c.file, err, c.want)
		}
	}
	if _, err := Load(t.TempDir()); !errors.Is(err, ErrFile) {
		t.Errorf("a directory: got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(trained(f, strings.Repeat(sample, 3), 300).File())
	f.Add([]byte(`{"sha256": "", "content": {}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		bpe, err := Parse(data)
		if err != nil {
			return
		}
		checkRoundTrip(t, bpe, data)
	})
}

func FuzzEncode(f *testing.F) {
	bpe := trained(f, strings.Repeat(sample, 3), 300)
	f.Add([]byte(sample))
	f.Add([]byte("  \t\n x"))
	f.Fuzz(func(t *testing.T, text []byte) { checkRoundTrip(t, bpe, text) })
}

// BenchmarkTrain trains on the Go text below GO_TEXT (a file), if that is set.
func BenchmarkTrain(b *testing.B) {
	path := os.Getenv("GO_TEXT")
	if path == "" {
		b.Skip("GO_TEXT names no file")
	}
	text, err := os.ReadFile(path)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		trained(b, string(text), 8192)
	}
	b.ReportMetric(float64(len(text))*float64(b.N)/1e6/b.Elapsed().Seconds(), "MB/s")
}
