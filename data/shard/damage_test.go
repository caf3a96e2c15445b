package shard

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jambalaya/data/internal/sealed"
	"jambalaya/data/tokenizer"
)

const firstShard = "train-00000.arrow"

// TestEveryBit flips each bit of each file of a data set.
func TestEveryBit(t *testing.T) {
	t.Parallel()
	dir := write(t, t.TempDir(), Options{Tokenizer: tokenizer.Bytes{}, LossMask: true}, documents)
	for _, name := range []string{ManifestName, firstShard, "held-out-00000.arrow"} {
		path := filepath.Join(dir, name)
		good := read(t, path)
		for i := range good {
			bad := slices.Clone(good)
			bad[i] ^= 1 << (i % 8)
			replaceFile(t, path, bad)
			set, err := Open(dir)
			if err == nil {
				set.Close()
				t.Fatalf("%s: byte %d: not found", name, i)
			}
			if msg := err.Error(); !strings.Contains(msg, name) || strings.Contains(msg, "\n") {
				t.Fatalf("%s: byte %d: %q", name, i, msg)
			}
		}
		replaceFile(t, path, good)
	}
	open(t, dir)
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// replaceFile writes a file anew, as copying would: another file, another time.
func replaceFile(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, data, 0o666); err != nil {
		t.Fatal(err)
	}
}

func TestOpenFaults(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		is     error
		want   string
	}{
		{"no folder", func(t *testing.T, dir string) { os.RemoveAll(dir) }, os.ErrNotExist, "set"},
		{"no manifest", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, ManifestName)) }, os.ErrNotExist, "not a data set"},
		{"empty manifest", func(t *testing.T, dir string) { truncate(t, dir, ManifestName, 0) }, ErrManifest, "shard the text again"},
		{"cut manifest", func(t *testing.T, dir string) { truncate(t, dir, ManifestName, 100) }, ErrManifest, "damaged"},
		{"no shard", func(t *testing.T, dir string) { os.Remove(filepath.Join(dir, firstShard)) }, os.ErrNotExist, firstShard},
		{"cut shard", func(t *testing.T, dir string) { truncate(t, dir, firstShard, 100) }, ErrShard, "has 100 bytes"},
		{"link out of the folder", func(t *testing.T, dir string) {
			path := filepath.Join(dir, firstShard)
			outside := filepath.Join(dir, "..", "elsewhere")
			if err := errors.Join(os.Rename(path, outside), os.Symlink("../elsewhere", path)); err != nil {
				t.Fatal(err)
			}
		}, nil, "escapes"},
		{"folder in place of a shard", func(t *testing.T, dir string) {
			path := filepath.Join(dir, firstShard)
			if err := errors.Join(os.Remove(path), os.Mkdir(path, 0o777)); err != nil {
				t.Fatal(err)
			}
		}, ErrShard, firstShard},
		{"token outside the vocabulary", func(t *testing.T, dir string) { reseal(t, dir, 300) }, ErrToken, "300, the vocabulary has 257"},
		{"no separator", func(t *testing.T, dir string) { reseal(t, dir, 12) }, ErrShard, "does not begin with"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := write(t, t.TempDir(), Options{Tokenizer: tokenizer.Bytes{}}, documents)
			c.damage(t, dir)
			set, err := Open(dir)
			if err == nil {
				set.Close()
				t.Fatal("no error")
			}
			if msg := err.Error(); !strings.Contains(msg, c.want) || strings.Contains(msg, "\n") || c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %q, want %q", msg, c.want)
			}
		})
	}
}

func truncate(t *testing.T, dir, name string, size int64) {
	t.Helper()
	if err := os.Truncate(filepath.Join(dir, name), size); err != nil {
		t.Fatal(err)
	}
}

// reseal changes the first token of the first shard and makes all sums right again.
func reseal(t *testing.T, dir string, token uint16) {
	t.Helper()
	path := filepath.Join(dir, firstShard)
	data := read(t, path)
	manifest, _, err := ParseManifest(read(t, filepath.Join(dir, ManifestName)))
	if err != nil {
		t.Fatal(err)
	}
	file := &manifest.Splits[0].Files[0]
	batches, err := parse(data, manifest, *file)
	if err != nil {
		t.Fatal(err)
	}
	batches[0].narrow[0] = token // a view: this changes data
	file.SHA256 = sha256Hex(data)
	sealedManifest, _, err := sealed.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	replaceFile(t, path, data)
	replaceFile(t, filepath.Join(dir, ManifestName), sealedManifest)
}

func TestManifestFaults(t *testing.T) {
	t.Parallel()
	dir := write(t, t.TempDir(), Options{Tokenizer: tokenizer.Bytes{}}, documents)
	good := read(t, filepath.Join(dir, ManifestName))
	for _, c := range []struct {
		name   string
		change func(m *Manifest)
		want   string
	}{
		{"version", func(m *Manifest) { m.FormatVersion = 2 }, "format version 2"},
		{"vocabulary", func(m *Manifest) { m.Tokenizer.VocabSize = 1 << 30 }, "make no sense"},
		{"end of text", func(m *Manifest) { m.Tokenizer.EndOfText = 257 }, "make no sense"},
		{"token type", func(m *Manifest) { m.TokenType = "uint32" }, "token_type"},
		{"compression", func(m *Manifest) { m.Compression = "lz4" }, "lz4"},
		{"splits", func(m *Manifest) { m.Splits[1].Name = "test" }, "splits"},
		{"no splits", func(m *Manifest) { m.Splits = nil }, "splits"},
		{"path", func(m *Manifest) { m.Splits[0].Files[0].Name = "../x" }, "file name"},
		{"hidden", func(m *Manifest) { m.Splits[0].Files[0].Name = ".x" }, "file name"},
		{"twice", func(m *Manifest) { m.Splits[0].Files[0].Name = m.Splits[1].Files[0].Name }, "twice"},
		{"sum", func(m *Manifest) { m.Splits[0].Files[0].SHA256 = "x" }, "SHA-256"},
		{"size", func(m *Manifest) { m.Splits[0].Files[0].Size = -1 }, "size"},
		{"rows", func(m *Manifest) { m.Splits[0].Rows++ }, "rows"},
		{"bomb", func(m *Manifest) { m.Splits[0].Files[0].Tokens = 1 << 62 }, "make no sense"},
		{"empty", func(m *Manifest) { m.Splits[0].Files, m.Splits[0].Rows, m.Splits[0].Tokens = nil, 0, 0 }, "empty"},
	} {
		m, _, err := ParseManifest(good)
		if err != nil {
			t.Fatal(err)
		}
		c.change(m)
		data, _, err := sealed.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := ParseManifest(data); !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %s", c.name, err, c.want)
		}
	}
	unknown, _, err := sealed.Marshal(map[string]any{"format_version": 1, "extra": 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := ParseManifest(unknown); !errors.Is(err, ErrManifest) || !strings.Contains(err.Error(), "extra") {
		t.Errorf("unknown key: %v", err)
	}
}

func FuzzManifest(f *testing.F) {
	dir := write(f, f.TempDir(), Options{Tokenizer: tokenizer.Bytes{}}, documents)
	good, err := os.ReadFile(filepath.Join(dir, ManifestName))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	m, _, err := ParseManifest(good)
	if err != nil {
		f.Fatal(err)
	}
	content, err := json.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(content) // sealed below, so that the checks behind the sum are reached
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _, _ = ParseManifest(data)
		if content := json.RawMessage(data); json.Valid(content) {
			file, _, err := sealed.Marshal(content)
			if err != nil {
				t.Fatal(err)
			}
			if m, _, err := ParseManifest(file); err == nil && m.Split(Train).Rows < 1 {
				t.Error("an empty data set is accepted")
			}
		}
	})
}

// FuzzShard parses what no sum protects.
func FuzzShard(f *testing.F) {
	var manifests []*Manifest
	for _, opts := range []Options{
		{Tokenizer: tokenizer.Bytes{}},
		{Tokenizer: tokenizer.Bytes{}, LossMask: true, Compression: Zstd},
	} {
		dir := write(f, f.TempDir(), opts, documents)
		manifest, err := os.ReadFile(filepath.Join(dir, ManifestName))
		if err != nil {
			f.Fatal(err)
		}
		m, _, err := ParseManifest(manifest)
		if err != nil {
			f.Fatal(err)
		}
		data, err := os.ReadFile(filepath.Join(dir, firstShard))
		if err != nil {
			f.Fatal(err)
		}
		manifests = append(manifests, m)
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		for _, m := range manifests {
			batches, err := parse(data, m, m.Splits[0].Files[0])
			if err != nil || checkTokens(batches, m) != nil {
				continue
			}
			for _, b := range batches {
				for i := range b.rows() {
					_ = b.narrow[b.offsets[i]:b.offsets[i+1]]
				}
			}
		}
	})
}
