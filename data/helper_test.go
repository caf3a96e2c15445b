package data

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/internal/prng"
)

// writeTree writes files into a new directory.
func writeTree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// corpusFiles makes n texts of different lengths, each in a directory of its own.
func corpusFiles(n int, seed uint64) map[string]string {
	r := prng.New(seed, "corpus")
	files := map[string]string{}
	for i := range n {
		files[fmt.Sprintf("d%03d/f.txt", i)] = strings.Repeat(fmt.Sprintf("text %d of %d. ", i, seed), 1+r.IntN(20))
	}
	return files
}

// testConfig is a configuration for directories of .txt files.
func testConfig(t testing.TB, length int, dirs ...string) Config {
	t.Helper()
	cfg := Default()
	cfg.SequenceLength = length
	cfg.CacheDir = filepath.Join(t.TempDir(), "cache")
	cfg.Sources = nil
	for _, dir := range dirs {
		cfg.Sources = append(cfg.Sources, Source{Path: dir, Ext: ".txt"})
	}
	return cfg
}

func openCorpus(t testing.TB, cfg Config) *Corpus {
	t.Helper()
	c, err := Open(context.Background(), cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func openIndex(t testing.TB, c *Corpus, seed uint64) *Index {
	t.Helper()
	x, err := c.Index(seed)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

// sample returns sample k as a batch of one row.
func sample(x *Index, k int64) Batch {
	b := newBatch(x.SequenceLength())
	b.First = k
	x.Sample(k, b.Inputs, b.Targets, b.Docs)
	return b
}
