package data

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jambalaya/data/shard"
	"jambalaya/data/source"
	"jambalaya/data/tokenizer"
)

// folders lists the cache of a configuration, without its lock.
func folders(t *testing.T, cfg Config) []string {
	t.Helper()
	entries, err := os.ReadDir(cfg.CacheDir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		if e.Name() != ".lock" {
			names = append(names, e.Name())
		}
	}
	return names
}

func TestCache(t *testing.T) {
	t.Parallel()
	dir := writeTree(t, corpusFiles(30, 1))
	cfg := testConfig(t, 8, dir)
	stages := 0
	open := func() string {
		t.Helper()
		c, err := Open(context.Background(), cfg, func(Progress) { stages++ })
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return openIndex(t, c, 1).Hash()
	}
	first := open()
	if stages == 0 {
		t.Error("no progress was told")
	}
	stages = 0
	if open() != first || stages != 0 {
		t.Error("the second start did not use the shards of the first")
	}
	// A folder that was not completed, under its name or another.
	made := filepath.Join(cfg.CacheDir, folders(t, cfg)[0])
	if err := errors.Join(os.Remove(filepath.Join(made, shard.ManifestName)), os.Mkdir(filepath.Join(cfg.CacheDir, shard.TempPrefix+"x"), 0o777)); err != nil {
		t.Fatal(err)
	}
	if open() != first || len(folders(t, cfg)) != 1 {
		t.Errorf("after a broken write the cache has %v", folders(t, cfg))
	}
	// The text changes.
	if err := os.WriteFile(filepath.Join(dir, "new.txt"), []byte("new text"), 0o666); err != nil {
		t.Fatal(err)
	}
	if open() == first || len(folders(t, cfg)) != 2 {
		t.Errorf("after a change of the text the cache has %v", folders(t, cfg))
	}
	// Only its time does: other shards, the same bytes, the same index.
	second := open()
	if err := os.Chtimes(filepath.Join(dir, "new.txt"), time.Time{}, time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if open() != second || len(folders(t, cfg)) != 3 {
		t.Errorf("after touching the text the cache has %v", folders(t, cfg))
	}
}

func TestManyProcesses(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, 8, writeTree(t, corpusFiles(30, 1)))
	var group sync.WaitGroup
	hashes := make([]string, 6)
	for i := range hashes {
		group.Go(func() {
			c, err := Open(context.Background(), cfg, nil)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			hashes[i] = c.sets[0].Hash()
		})
	}
	group.Wait()
	if slices.Sort(hashes); hashes[0] != hashes[5] || len(folders(t, cfg)) != 1 {
		t.Errorf("got %v in %v", hashes, folders(t, cfg))
	}
}

func TestTrainedTokenizer(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, 8, writeTree(t, corpusFiles(30, 1)))
	cfg.Tokenizer = "bpe-270"
	c := openCorpus(t, cfg)
	if c.VocabSize() != 270 {
		t.Errorf("vocabulary of %d", c.VocabSize())
	}
	again := openCorpus(t, cfg)
	if again.Tokenizer().Hash() != c.Tokenizer().Hash() || len(folders(t, cfg)) != 2 {
		t.Errorf("the second start has another tokenizer: %v", folders(t, cfg))
	}
	// The folder of shards carries its tokenizer.
	direct := testConfig(t, 8)
	direct.Sources = []Source{{Path: c.Dirs()[0]}}
	if _, err := Open(context.Background(), direct, nil); !errors.Is(err, ErrConfig) || !strings.Contains(err.Error(), "bpe-270") {
		t.Errorf("shards of another tokenizer: %v", err)
	}
	direct.Tokenizer = filepath.Join(c.Dirs()[0], "tokenizer.json")
	if openIndex(t, openCorpus(t, direct), 1).Hash() != openIndex(t, c, 1).Hash() {
		t.Error("the shards named directly have another order")
	}
	direct.Tokenizer = "bpe-270"
	if _, err := Open(context.Background(), direct, nil); !errors.Is(err, ErrConfig) {
		t.Errorf("a tokenizer trained on shards: %v", err)
	}
}

func TestLossMask(t *testing.T) {
	t.Parallel()
	text := `{"text": "abcdef", "learn": [0,0,0,1,1,1]}` + "\n" + `{"text": "ghi"}` + "\n"
	cfg := testConfig(t, 10, writeTree(t, map[string]string{"x.jsonl": text}))
	cfg.Sources[0].Ext, cfg.Sources[0].MaskField = ".jsonl", "learn"
	x := openIndex(t, openCorpus(t, cfg), 1)
	seen := 0
	for k := range int64(20) {
		b := sample(x, k)
		for i, id := range b.Targets {
			// What follows a, b or nothing is masked; all else is learnt.
			if masked := b.Inputs[i] == 'a' || b.Inputs[i] == 'b' || b.Inputs[i] == 256 && (id == Ignored || id == 'a'); masked != (id == Ignored) {
				t.Fatalf("sample %d: the target after %d is %d", k, b.Inputs[i], id)
			} else if masked {
				seen++
			}
		}
	}
	if seen < 20 {
		t.Errorf("only %d targets are masked", seen)
	}
}

// TestBadInput has one line for each fault, and what it is.
func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(t *testing.T, cfg *Config)
		is     error
		want   string
		config bool
	}{
		{"no such path", func(t *testing.T, cfg *Config) { cfg.Sources[0].Path = "/no/such" }, source.ErrInput, "/no/such", true},
		{"no extension", func(t *testing.T, cfg *Config) { cfg.Sources[0].Ext = "" }, source.ErrInput, "ext: .txt", true},
		{"other extension", func(t *testing.T, cfg *Config) { cfg.Sources[0].Ext = ".c" }, source.ErrInput, "no file below", true},
		{"empty corpus", func(t *testing.T, cfg *Config) {
			cfg.Sources[0].Path = writeTree(t, map[string]string{"a.txt": ""})
		}, shard.ErrEmpty, "empty", true},
		{"nothing to hold out", func(t *testing.T, cfg *Config) { cfg.Sources[0].HeldOut = []string{"nix"} }, source.ErrInput, "nix", true},
		{"unknown tokenizer", func(t *testing.T, cfg *Config) { cfg.Tokenizer = "bites" }, ErrConfig, "tokenizer: ", true},
		{"no tokenizer file", func(t *testing.T, cfg *Config) { cfg.Tokenizer = "no.json" }, os.ErrNotExist, "no.json", false},
		{"vocabulary too large", func(t *testing.T, cfg *Config) { cfg.Tokenizer = "bpe-9000" }, tokenizer.ErrTraining, "more text", true},
		{"cache in a file's place", func(t *testing.T, cfg *Config) {
			cfg.CacheDir = filepath.Join(writeTree(t, map[string]string{"f": ""}), "f")
		}, nil, "data.cache_dir", false},
		{"flipped bit", func(t *testing.T, cfg *Config) { damageCache(t, cfg, 900) }, shard.ErrShard, "remove ", false},
		{"bad line", func(t *testing.T, cfg *Config) {
			cfg.Sources[0] = Source{Path: filepath.Join(writeTree(t, map[string]string{"a.jsonl": "{\"text\": \"a\"}\n{"}), "a.jsonl")}
		}, source.ErrInput, "a.jsonl: line 2", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cfg := testConfig(t, 8, writeTree(t, corpusFiles(30, 1)))
			c.change(t, &cfg)
			corpus, err := Open(context.Background(), cfg, nil)
			if err == nil {
				corpus.Close()
				t.Fatal("no error")
			}
			if msg := err.Error(); strings.Contains(msg, "\n") || !strings.Contains(msg, c.want) {
				t.Errorf("got %q, want %q", msg, c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) || IsConfig(err) != c.config {
				t.Errorf("%v: is %v: %v; IsConfig: %v", err, c.is, errors.Is(err, c.is), IsConfig(err))
			}
		})
	}
}

// damageCache shards the sources and flips a bit of the first shard.
func damageCache(t *testing.T, cfg *Config, at int) {
	t.Helper()
	corpus, err := Open(context.Background(), *cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(corpus.Dirs()[0], "train-00000.arrow")
	if err := corpus.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	data[at] ^= 4
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	cfg := testConfig(t, 8, writeTree(t, corpusFiles(30, 1)))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Open(ctx, cfg, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if left := folders(t, cfg); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestValidate(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
	bad := Config{Sources: []Source{{Path: "x"}, {Weight: -1, Ext: "go"}}, SequenceLength: 0, Tokenizer: "bpe-12", Prefetch: -1}
	err := bad.Validate()
	var keys []string
	for _, fault := range err.(interface{ Unwrap() []error }).Unwrap() {
		var c *ConfigError
		if !errors.As(fault, &c) || !errors.Is(fault, ErrConfig) {
			t.Errorf("%v is no fault of the configuration", fault)
		}
		keys = append(keys, c.Key)
	}
	want := []string{"sources[1].path", "sources[1].weight", "sources[1].ext", "sequence_length", "tokenizer", "cache_dir", "prefetch"}
	if !slices.Equal(keys, want) {
		t.Errorf("got %v, want %v", keys, want)
	}
	if err := (Config{}).Validate(); !strings.Contains(fmt.Sprint(err), "sources: has 0 entries") {
		t.Errorf("got %v", err)
	}
}
