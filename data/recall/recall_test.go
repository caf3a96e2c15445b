package recall_test

import (
	"context"
	"errors"
	"slices"
	"testing"

	"jambalaya/data"
	"jambalaya/data/recall"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/prng"
	"jambalaya/internal/vfs"
)

func generator(t *testing.T) *recall.Generator {
	t.Helper()
	g, err := recall.New(tokenizer.Bytes{})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// answer is what followed the last token like the one before at.
func answer(tokens []uint32, at int) uint32 {
	for i := at - 2; i > 0; i-- {
		if tokens[i] == tokens[at-1] {
			return tokens[i+1]
		}
	}
	return 0
}

func TestProblems(t *testing.T) {
	t.Parallel()
	g := generator(t)
	for _, task := range recall.Tasks() {
		for _, length := range []int{recall.MinLength, 17, 32, 63, 64, 128, 257, 512} {
			r := prng.New(3, string(task))
			right := map[uint32]int{}
			answers := 0
			for range 40 {
				p := g.Problem(task, length, r)
				if len(p.Tokens) != length || len(p.Answer) != length || p.Tokens[0] != 256 {
					t.Fatalf("%s %d: %d tokens, %d flags", task, length, len(p.Tokens), len(p.Answer))
				}
				for at, a := range p.Answer {
					if a == 0 {
						continue
					}
					answers++
					right[p.Tokens[at]]++
					if task != recall.Copying && answer(p.Tokens, at) != p.Tokens[at] {
						t.Fatalf("%s %d: the answer at %d is not what came after %d", task, length, at, p.Tokens[at-1])
					}
				}
				if task == recall.Copying {
					divider := slices.Index(p.Tokens, 128+84)
					n := length - divider - 1
					if !slices.Equal(p.Tokens[divider-n:divider], p.Tokens[divider+1:]) {
						t.Fatalf("copying %d: %v", length, p.Tokens)
					}
				}
			}
			if answers < 40 {
				t.Errorf("%s %d: %d answers in 40 problems", task, length, answers)
			}
			for token, n := range right { // no answer is right far more often than by chance
				if share := float64(n) / float64(answers); answers > 500 && share > 3*task.Chance() {
					t.Errorf("%s %d: token %d is the answer in %.2f of the cases", task, length, token, share)
				}
			}
		}
	}
}

func TestWriteIsReadBackWithMasks(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fsys, err := vfs.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	g := generator(t)
	o := recall.Options{Length: 32, Documents: 300, Seed: 5}
	for _, name := range []string{"a", "b"} {
		if err := g.Write(context.Background(), fsys, name, o); err != nil {
			t.Fatal(err)
		}
	}
	var hashes []string
	for _, name := range []string{"a", "b"} {
		cfg := data.Default()
		cfg.Sources, cfg.SequenceLength = []data.Source{{Path: dir + "/" + name}}, 64
		corpus, err := data.Open(context.Background(), cfg, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer corpus.Close()
		index, err := corpus.Index(1)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, index.Hash())
		inputs, targets, docs := make([]int32, 64), make([]int32, 64), make([]int32, 64)
		for k := range int64(100) {
			index.Sample(k, inputs, targets, docs)
			if inputs[0] != 256 || inputs[32] != 256 || docs[31] != 0 || docs[32] != 1 || docs[63] != 1 {
				t.Fatalf("sample %d: problems are cut: %v", k, docs)
			}
			learnt := 0
			for i, target := range targets {
				if target != data.Ignored {
					learnt++
					if target < 128 || i+1 < 64 && target != inputs[i+1] {
						t.Fatalf("sample %d: target %d at %d", k, target, i)
					}
				}
			}
			if learnt == 0 || learnt > 32 {
				t.Fatalf("sample %d: %d of 64 targets are learnt", k, learnt)
			}
		}
	}
	if hashes[0] != hashes[1] {
		t.Error("the same options give two data sets")
	}
	if err := g.Write(context.Background(), fsys, "short", recall.Options{Length: 8, Documents: 1}); !errors.Is(err, recall.ErrLength) {
		t.Error(err)
	}
}
