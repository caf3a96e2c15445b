package shard

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"jambalaya/data/internal/sealed"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/vfs"
)

// TempPrefix begins the names of folders that are being written.
const TempPrefix = ".tmp-"

// Options says how to write a data set.
type Options struct {
	Tokenizer   tokenizer.Tokenizer
	Compression string // Uncompressed (also the empty string) or Zstd
	LossMask    bool   // store which tokens are to be learnt
	FileBytes   int64  // begin another shard above this size; 0 is 256 MiB
}

// Writer writes a data set.
type Writer struct {
	fs       vfs.FS
	dir      string // where it will be
	temp     string // where it is until then
	opts     Options
	manifest Manifest
	splits   []*splitWriter // train, held-out
}

// Create begins a data set in the folder dir of fsys, which must not exist yet
// (ErrExists). Nothing appears under that name before Commit.
func Create(fsys vfs.FS, dir string, opts Options) (*Writer, error) {
	if opts.Compression == "" {
		opts.Compression = Uncompressed
	}
	if opts.FileBytes == 0 {
		opts.FileBytes = 256 << 20
	}
	if _, err := fsys.Stat(dir); err == nil {
		return nil, fmt.Errorf("%s: %w", dir, ErrExists)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var random [6]byte
	rand.Read(random[:])
	w := &Writer{
		fs: fsys, dir: dir, opts: opts,
		temp: path.Join(path.Dir(dir), TempPrefix+path.Base(dir)+"-"+hex.EncodeToString(random[:])),
	}
	if err := vfs.MkdirAll(fsys, path.Dir(dir)); err != nil {
		return nil, fmt.Errorf("cannot make the folder for %s: %w; choose another place", dir, err)
	}
	if err := fsys.Mkdir(w.temp); err != nil {
		return nil, fmt.Errorf("cannot write beside %s: %w; choose another place", dir, err)
	}
	tok := opts.Tokenizer
	w.manifest = Manifest{
		FormatVersion: FormatVersion,
		Tokenizer:     Tokenizer{ID: tok.ID(), SHA256: tok.Hash(), VocabSize: tok.VocabSize(), EndOfText: tok.EndOfText()},
		TokenType:     tokenType(tok.VocabSize()),
		LossMask:      opts.LossMask,
		Compression:   opts.Compression,
	}
	for _, name := range []string{Train, HeldOut} {
		w.splits = append(w.splits, newSplitWriter(w, name))
	}
	return w, nil
}

// Add appends a document to a split: tokens, of which the first is EndOfText; for
// each of them whether it is to be learnt (1 or 0; nil is all, and needed unless
// Options.LossMask); and the number of bytes of text they stand for. It keeps
// neither slice.
func (w *Writer) Add(split string, tokens []uint32, mask []uint8, bytes int) error {
	tok := w.opts.Tokenizer
	switch {
	case len(tokens) == 0 || tokens[0] != tok.EndOfText():
		return fmt.Errorf("a document begins with the end-of-text token %d", tok.EndOfText())
	case mask != nil && (!w.opts.LossMask || len(mask) != len(tokens)):
		return fmt.Errorf("a loss mask of %d values for %d tokens", len(mask), len(tokens))
	case len(tokens) > maxRowTokens:
		return fmt.Errorf("a document of %d tokens; %d is the most: split it", len(tokens), maxRowTokens)
	}
	if top := slices.Max(tokens); int64(top) >= int64(tok.VocabSize()) {
		return fmt.Errorf("%w: %d, the vocabulary has %d", ErrToken, top, tok.VocabSize())
	}
	s := w.splits[0]
	if split == HeldOut {
		s = w.splits[1]
	}
	if err := s.add(tokens, mask, bytes); err != nil {
		return w.failed(err)
	}
	return nil
}

// Commit completes the data set and puts it in its place. A data set without a
// training document is ErrEmpty, and one that appeared in the place meanwhile
// ErrExists; then, as after any failure, nothing is left.
func (w *Writer) Commit() (*Manifest, error) {
	if err := w.commit(); err != nil {
		w.Abort()
		return nil, err
	}
	return &w.manifest, nil
}

func (w *Writer) commit() error {
	for _, s := range w.splits {
		if err := s.close(); err != nil {
			return w.failed(err)
		}
		if s.totals.Rows > 0 {
			w.manifest.Splits = append(w.manifest.Splits, s.totals)
		} else if s.totals.Name == Train {
			return fmt.Errorf("%s: %w: it has no training document", w.dir, ErrEmpty)
		}
	}
	if bpe, ok := w.opts.Tokenizer.(*tokenizer.BPE); ok {
		file := bpe.File()
		if err := vfs.WriteFile(w.fs, path.Join(w.temp, tokenizerName), file); err != nil {
			return w.failed(err)
		}
		w.manifest.Tokenizer.File = &File{tokenizerName, int64(len(file)), sha256Hex(file)}
	}
	manifest, _, err := sealed.Marshal(w.manifest)
	if err != nil {
		return w.failed(err)
	}
	if err := vfs.WriteFile(w.fs, path.Join(w.temp, ManifestName), manifest); err != nil {
		return w.failed(err)
	}
	if err := w.fs.SyncDir(w.temp); err != nil {
		return w.failed(err)
	}
	if err := w.fs.Rename(w.temp, w.dir); err != nil {
		if errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("%s: %w", w.dir, ErrExists)
		}
		return w.failed(err)
	}
	if err := w.fs.SyncDir(path.Dir(w.dir)); err != nil {
		return w.failed(err)
	}
	return nil
}

// Abort gives the data set up and removes what was written.
func (w *Writer) Abort() {
	for _, s := range w.splits {
		s.abandon()
	}
	// A folder that cannot be removed does no harm: its name says what it is.
	_ = vfs.RemoveAll(w.fs, w.temp)
}

func (w *Writer) failed(err error) error {
	return fmt.Errorf("cannot write %s: %w; free space there or choose another place", w.dir, err)
}

// RemoveTemp removes the folders of interrupted writes from a directory that no
// other process writes to.
func RemoveTemp(fsys vfs.FS, dir string) error {
	entries, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), TempPrefix) {
			if err := vfs.RemoveAll(fsys, path.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
