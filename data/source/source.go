package source

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// ErrInput marks input that cannot be read as asked.
var ErrInput = errors.New("cannot read the input")

// Document is one text. Its slices are valid until the next document.
type Document struct {
	Name    string
	Text    []byte
	Mask    []uint8 // 1 for each byte to be learnt, else 0; nil is learn all
	HeldOut bool
	Read    int64 // bytes of the input read so far, of Source.Size
}

// Options says how to read input.
type Options struct {
	Ext       string   // of the files to read below a directory, with its dot
	TextField string   // field or column of rows with the text; empty is "text"
	MaskField string   // field or column with a list of 0 or 1 for each byte of the text; empty is none
	HeldOut   []string // directories and files, relative to the input, to hold out
}

// Source is input that was listed but not yet read.
type Source struct {
	name  string
	root  string
	files []file // sorted by path
	opts  Options
	isGo  bool
}

// file is one file of the input.
type file struct {
	path string // slash-separated, relative to the root
	size int64
	time int64 // of its last change, in nanoseconds
}

// Open lists a file, or the files of a directory and all below it whose names end
// in Options.Ext. Symbolic links below it are not followed, hidden directories are
// not entered.
func Open(name string, opts Options) (*Source, error) {
	if opts.TextField == "" {
		opts.TextField = "text"
	}
	info, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	root, err := filepath.EvalSymlinks(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInput, err)
	}
	s := &Source{name: name, root: root, opts: opts}
	if !info.IsDir() {
		s.root = filepath.Dir(root)
		s.files = []file{{filepath.Base(root), info.Size(), info.ModTime().UnixNano()}}
	} else if opts.Ext == "" {
		return nil, fmt.Errorf("%w: %s is a directory: say which files to read, as in --ext .txt or ext: .txt", ErrInput, name)
	} else if err := s.list(""); err != nil {
		return nil, err
	}
	if len(s.files) == 0 {
		return nil, fmt.Errorf("%w: no file below %s ends in %s", ErrInput, name, opts.Ext)
	}
	for _, h := range opts.HeldOut {
		if !slices.ContainsFunc(s.files, func(f file) bool { return below(f.path, h) }) {
			return nil, fmt.Errorf("%w: nothing to hold out: %s has no file in or called %s", ErrInput, name, h)
		}
	}
	return s, nil
}

// list finds the files below the root, but not in directories called skip.
func (s *Source) list(skip string) error {
	err := filepath.WalkDir(s.root, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if base := entry.Name(); name != s.root && (strings.HasPrefix(base, ".") || base == skip) {
				return fs.SkipDir
			}
			return nil
		}
		if !entry.Type().IsRegular() || !strings.HasSuffix(entry.Name(), s.opts.Ext) {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(s.root, name)
		if err != nil {
			return err
		}
		s.files = append(s.files, file{filepath.ToSlash(relative), info.Size(), info.ModTime().UnixNano()})
		return nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInput, err)
	}
	slices.SortFunc(s.files, func(a, b file) int { return strings.Compare(a.path, b.path) })
	return nil
}

// Name is the input as it was given.
func (s *Source) Name() string { return s.name }

// Size is the number of bytes of the input.
func (s *Source) Size() int64 { return size(s.files) }

func size(files []file) int64 {
	n := int64(0)
	for _, f := range files {
		n += f.size
	}
	return n
}

// HasMask reports whether documents may have masks.
func (s *Source) HasMask() bool { return s.opts.MaskField != "" }

// Key changes when the input does, as far as names, sizes and times tell, or what
// is read of it.
func (s *Source) Key() string {
	h := sha256.New()
	fmt.Fprintf(h, "source 1\n%q\n%v\n", s.opts, s.isGo)
	for _, f := range s.files {
		fmt.Fprintf(h, "%q %d %d\n", f.path, f.size, f.time)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Documents reads the input. It ends after the first error.
func (s *Source) Documents() iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		files := s.files
		if s.isGo {
			var err error
			if files, err = s.chooseGo(); err != nil {
				yield(Document{}, err)
				return
			}
		}
		r := &reader{source: s, heldOut: s.chooseHeldOut(files), yield: yield}
		r.scale = float64(s.Size()) / float64(max(size(files), 1))
		for _, f := range files {
			if !r.read(f) {
				return
			}
		}
	}
}

// reader is one pass over the input.
type reader struct {
	source  *Source
	heldOut func(f file, row int) bool
	yield   func(Document, error) bool
	buffer  []byte
	done    int64   // bytes of the files before this one
	scale   float64 // all bytes of the input, to those of the files that are read
}

// read yields the documents of a file, and reports whether to go on.
func (r *reader) read(f file) bool {
	var more bool
	var err error
	switch path.Ext(f.path) {
	case ".jsonl":
		more, err = r.readLines(f)
	case ".parquet":
		more, err = r.readParquet(f)
	default:
		more, err = r.readText(f)
	}
	if err != nil {
		r.yield(Document{}, fmt.Errorf("%w: %w", ErrInput, err))
		return false
	}
	r.done += f.size
	return more
}

// readText yields a whole file. An empty one is no document.
func (r *reader) readText(f file) (bool, error) {
	var err error
	if r.buffer, err = appendFile(r.buffer[:0], r.source.full(f)); err != nil {
		return false, err
	}
	if len(r.buffer) == 0 {
		return true, nil
	}
	return r.document(f, 0, f.size, r.buffer, nil)
}

// document yields one document of a file, of which read bytes have been read.
func (r *reader) document(f file, row int, read int64, text []byte, mask []uint8) (bool, error) {
	if mask != nil && len(mask) != len(text) {
		return false, fmt.Errorf("%s: row %d: the mask has %d values for %d bytes of text", r.source.full(f), row+1, len(mask), len(text))
	}
	return r.yield(Document{
		Name: f.path, Text: text, Mask: mask, HeldOut: r.heldOut(f, row), Read: int64(float64(r.done+read) * r.scale),
	}, nil), nil
}

func (s *Source) full(f file) string { return filepath.Join(s.root, filepath.FromSlash(f.path)) }

// appendFile appends the contents of a file.
func appendFile(buffer []byte, name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return buffer, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return buffer, err
	}
	start := len(buffer)
	buffer = slices.Grow(buffer, int(info.Size()))[:start+int(info.Size())]
	if _, err := io.ReadFull(f, buffer[start:]); err != nil {
		return buffer, fmt.Errorf("read %s: %w", name, err)
	}
	return buffer, nil
}
