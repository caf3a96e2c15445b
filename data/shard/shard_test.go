package shard

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/apache/arrow/go/v15/arrow/array"
	"github.com/apache/arrow/go/v15/arrow/ipc"

	"jambalaya/data/tokenizer"
	"jambalaya/internal/vfs"
)

// wide is a tokenizer with a vocabulary that needs uint32.
func wide(t testing.TB) tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Named("cl100k_base")
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

type document struct {
	split string
	text  string
	mask  []uint8 // of the tokens, separator included
}

var documents = []document{
	{Train, "package a\n", nil},
	{HeldOut, "held out", nil},
	{Train, "", nil},
	{Train, "xyz", []uint8{1, 0, 0, 1}},
	{HeldOut, "\xff\x00", nil},
}

// write makes a data set of the documents in dir/set and returns that folder.
func write(t testing.TB, dir string, opts Options, docs []document) string {
	t.Helper()
	fsys, err := vfs.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	if err := writeTo(fsys, opts, docs); err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "set")
}

func writeTo(fsys vfs.FS, opts Options, docs []document) error {
	w, err := Create(fsys, "set", opts)
	if err != nil {
		return err
	}
	for _, d := range docs {
		ids := opts.Tokenizer.Encode([]uint32{opts.Tokenizer.EndOfText()}, []byte(d.text))
		mask := d.mask
		if !opts.LossMask {
			mask = nil
		}
		if err := w.Add(d.split, ids, mask, len(d.text)); err != nil {
			w.Abort()
			return err
		}
	}
	_, err = w.Commit()
	return err
}

func open(t testing.TB, dir string) *Set {
	t.Helper()
	set, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { set.Close() })
	return set
}

func ids(r Row) []uint32 {
	out := make([]uint32, r.Len())
	for i := range out {
		out[i] = r.Token(i)
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	t.Parallel()
	bpe := tokenizer.NewTrainer()
	bpe.Add([]byte("package package xyz xyz"))
	trained, err := bpe.Train(260)
	if err != nil {
		t.Fatal(err)
	}
	for _, opts := range []Options{
		{Tokenizer: tokenizer.Bytes{}},
		{Tokenizer: tokenizer.Bytes{}, LossMask: true},
		{Tokenizer: tokenizer.Bytes{}, LossMask: true, Compression: Zstd},
		{Tokenizer: trained, Compression: Zstd},
		{Tokenizer: wide(t)},
	} {
		name := fmt.Sprintf("%s-%s-%v", opts.Tokenizer.ID(), opts.Compression, opts.LossMask)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docs := documents
			if opts.Tokenizer.VocabSize() > 300 { // masks are one value a token of bytes
				docs = slices.DeleteFunc(slices.Clone(docs), func(d document) bool { return d.mask != nil })
			}
			set := open(t, write(t, t.TempDir(), opts, docs))
			if set.Tokenizer().Hash() != opts.Tokenizer.Hash() {
				t.Errorf("another tokenizer came back: %s", set.Tokenizer().ID())
			}
			next := map[string]int64{}
			for _, d := range docs {
				split := set.Split(d.split)
				row := split.Row(next[d.split])
				want := opts.Tokenizer.Encode([]uint32{opts.Tokenizer.EndOfText()}, []byte(d.text))
				if got := ids(row); !slices.Equal(got, want) || split.RowTokens(next[d.split]) != len(want) {
					t.Errorf("%q: got %v, want %v", d.text, got, want)
				}
				if opts.LossMask {
					want := d.mask
					if want == nil {
						want = slices.Repeat([]uint8{1}, row.Len())
					}
					if !slices.Equal(row.Mask, want) {
						t.Errorf("%q: got mask %v, want %v", d.text, row.Mask, want)
					}
				} else if row.Mask != nil {
					t.Errorf("%q: has a mask", d.text)
				}
				next[d.split]++
			}
			if train := set.Split(Train); train.Rows() != next[Train] || train.Bytes() < 10 {
				t.Errorf("%d rows of %d bytes", train.Rows(), train.Bytes())
			}
		})
	}
}

// TestManyBatches crosses batches and files, and reads them with the Arrow library.
func TestManyBatches(t *testing.T) {
	t.Parallel()
	var docs []document
	for i := range 2*batchRows + 100 {
		docs = append(docs, document{Train, strings.Repeat("x", i%3), nil})
	}
	dir := write(t, t.TempDir(), Options{Tokenizer: tokenizer.Bytes{}, FileBytes: 1}, docs)
	set := open(t, dir)
	files := set.Manifest().Split(Train).Files
	if len(files) != 3 {
		t.Fatalf("got %d files", len(files))
	}
	for i := range docs {
		if got := set.Split(Train).RowTokens(int64(i)); got != 1+i%3 {
			t.Fatalf("row %d has %d tokens", i, got)
		}
	}
	f, err := os.Open(filepath.Join(dir, files[1].Name))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := ipc.NewFileReader(f)
	if err != nil {
		t.Fatal(err)
	}
	record, err := r.Record(0)
	if err != nil {
		t.Fatal(err)
	}
	list := record.Column(0).(*array.List)
	values := list.ListValues().(*array.Uint16)
	if from, to := list.ValueOffsets(1); values.Value(int(from)) != 256 || int(to-from) != 1+(batchRows+1)%3 {
		t.Errorf("the Arrow library reads row 1 as %d..%d of %v", from, to, values.Value(int(from)))
	}
}

func TestSameInputSameBytes(t *testing.T) {
	t.Parallel()
	opts := Options{Tokenizer: tokenizer.Bytes{}, LossMask: true, Compression: Zstd}
	a, b := open(t, write(t, t.TempDir(), opts, documents)), open(t, write(t, t.TempDir(), opts, documents))
	if a.Hash() != b.Hash() {
		t.Error("two data sets of the same documents differ")
	}
}

// TestEveryFailingOperation fails each file operation in turn: an error, and
// nothing under the final name.
func TestEveryFailingOperation(t *testing.T) {
	t.Parallel()
	opts := Options{Tokenizer: tokenizer.Bytes{}}
	counter := vfs.NewFaults(vfs.NewMem(), func(vfs.Op) error { return nil })
	if err := writeTo(counter, opts, documents); err != nil {
		t.Fatal(err)
	}
	for n := range counter.Count() {
		mem := vfs.NewMem()
		err := writeTo(vfs.NewFaults(mem, vfs.FailFrom(n, syscall.ENOSPC)), opts, documents)
		_, statErr := mem.Stat("set")
		if err == nil {
			t.Errorf("operation %d: no error", n)
		} else if renamed := statErr == nil; renamed && n < counter.Count()-2 {
			t.Errorf("operation %d: the data set is there after %v", n, err)
		} else if !errors.Is(err, syscall.ENOSPC) || strings.Contains(err.Error(), "\n") {
			t.Errorf("operation %d: %v", n, err)
		}
	}
}

func TestWriteFaults(t *testing.T) {
	t.Parallel()
	opts := Options{Tokenizer: tokenizer.Bytes{}}
	mem := vfs.NewMem()
	if err := writeTo(mem, opts, []document{{HeldOut, "x", nil}}); !errors.Is(err, ErrEmpty) {
		t.Errorf("no training document: %v", err)
	}
	if entries, err := mem.ReadDir("."); err != nil || len(entries) != 0 {
		t.Errorf("something is left: %v, %v", entries, err)
	}
	w, err := Create(mem, "set", opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(Train, []uint32{256, 257}, nil, 1); !errors.Is(err, ErrToken) {
		t.Errorf("a token too large: %v", err)
	}
	if err := w.Add(Train, []uint32{1}, nil, 1); err == nil {
		t.Error("no separator: no error")
	}
	if err := w.Add(Train, []uint32{256}, []uint8{1}, 1); err == nil {
		t.Error("a mask where there is none: no error")
	}
	if err := writeTo(mem, opts, documents); err != nil {
		t.Fatal(err)
	}
	if err := w.Add(Train, []uint32{256}, nil, 0); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Commit(); !errors.Is(err, ErrExists) {
		t.Errorf("another came first: %v", err)
	}
	if _, err := Create(mem, "set", opts); !errors.Is(err, ErrExists) {
		t.Errorf("it is there: %v", err)
	}
}

func TestRemoveTemp(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	w, err := Create(mem, "a/set", Options{Tokenizer: tokenizer.Bytes{}})
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Add(Train, []uint32{256}, nil, 0); err != nil {
		t.Fatal(err)
	}
	if err := RemoveTemp(mem, "a"); err != nil {
		t.Fatal(err)
	}
	if entries, err := mem.ReadDir("a"); err != nil || len(entries) != 0 {
		t.Errorf("got %v, %v", entries, err)
	}
	if _, err := mem.Stat("a"); errors.Is(err, fs.ErrNotExist) {
		t.Error("the directory itself is gone")
	}
}
