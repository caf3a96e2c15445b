package shard

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"jambalaya/data/tokenizer"
)

// Set is an open data set.
type Set struct {
	manifest  *Manifest
	hash      string
	tokenizer tokenizer.Tokenizer
	splits    [2]*Split // train, held-out
	release   []func() error
}

// Split is one part of a data set: rows in the order in which they were written.
// Its methods may be used by several goroutines at once.
type Split struct {
	totals  Totals
	batches []batch
	first   []int64 // number of the first row of each batch
}

// Row is a view of one document. Either Narrow or Wide holds its tokens.
type Row struct {
	Narrow []uint16
	Wide   []uint32
	Mask   []uint8 // 1 learn, 0 do not; nil is learn all
}

// Open verifies and maps the data set in a folder.
func Open(dir string) (*Set, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	manifest, err := readSmall(root, ManifestName, maxManifest)
	if err != nil {
		return nil, fmt.Errorf("%s is not a data set: %w", dir, err)
	}
	s := &Set{}
	if s.manifest, s.hash, err = ParseManifest(manifest); err != nil {
		return nil, fmt.Errorf("%s: %w; shard the text again", filepath.Join(dir, ManifestName), err)
	}
	if s.tokenizer, err = s.manifest.tokenizer(root); err != nil {
		return nil, fmt.Errorf("%s: %w; shard the text again", dir, err)
	}
	if err := s.load(root, dir); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// load maps and checks all shards, several at once.
func (s *Set) load(root *os.Root, dir string) error {
	type result struct {
		batches []batch
		release func() error
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	var results [2][]result
	for i, totals := range s.manifest.Splits {
		results[i] = make([]result, len(totals.Files))
		for j, info := range totals.Files {
			group.Go(func() error {
				batches, release, err := openShard(root, dir, s.manifest, info)
				if err != nil {
					return fmt.Errorf("%s: %w; shard the text again or copy it anew", filepath.Join(dir, info.Name), err)
				}
				results[i][j] = result{batches, release}
				return nil
			})
		}
	}
	err := group.Wait()
	for i, name := range []string{Train, HeldOut} {
		split := &Split{totals: s.manifest.Split(name)}
		rows := int64(0)
		for _, r := range results[i] {
			if r.release != nil {
				s.release = append(s.release, r.release)
			}
			for _, b := range r.batches {
				split.batches = append(split.batches, b)
				split.first = append(split.first, rows)
				rows += int64(b.rows())
			}
		}
		s.splits[i] = split
	}
	return err
}

// verdict identifies a file that was found to be good.
type verdict struct {
	path   string
	size   int64
	time   time.Time
	sha256 string
	vocab  int
}

var verdicts sync.Map // of verdict

// openShard maps a shard and believes it only after its sum was compared.
func openShard(root *os.Root, dir string, m *Manifest, info ShardFile) (batches []batch, release func() error, err error) {
	f, err := root.Open(info.Name)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	stat, err := f.Stat()
	if err != nil {
		return nil, nil, err
	}
	if !stat.Mode().IsRegular() || stat.Size() != info.Size {
		return nil, nil, fmt.Errorf("%w: it has %d bytes, the manifest says %d", ErrShard, stat.Size(), info.Size)
	}
	if info.Size == 0 || int64(int(info.Size)) != info.Size {
		return nil, nil, fmt.Errorf("%w: %d bytes cannot be read", ErrShard, info.Size)
	}
	data, release, err := readFile(f, int(info.Size))
	if err != nil {
		return nil, nil, err
	}
	defer func() {
		if err != nil {
			_ = release() // the error that is there says more
		}
	}()
	absolute, err := filepath.Abs(filepath.Join(dir, info.Name))
	if err != nil {
		return nil, release, err
	}
	good := verdict{absolute, info.Size, stat.ModTime(), info.SHA256, m.Tokenizer.VocabSize}
	_, known := verdicts.Load(good)
	if !known && sha256Hex(data) != info.SHA256 {
		return nil, release, fmt.Errorf("%w: its contents do not have the SHA-256 of the manifest", ErrShard)
	}
	batches, err = parse(data, m, info)
	if err != nil {
		return nil, release, fmt.Errorf("%w: %w", ErrShard, err)
	}
	if !known {
		if err := checkTokens(batches, m); err != nil {
			return nil, release, err
		}
		verdicts.Store(good, true)
	}
	return batches, release, nil
}

// checkTokens checks the tokens themselves: in the vocabulary, and the separator
// first in each row.
func checkTokens(batches []batch, m *Manifest) error {
	for _, b := range batches {
		top, ok := uint32(0), true
		if b.wide != nil {
			top, ok = slices.Max(b.wide), startWith(b.wide, b.offsets, m.Tokenizer.EndOfText)
		} else {
			top, ok = uint32(slices.Max(b.narrow)), startWith(b.narrow, b.offsets, uint16(m.Tokenizer.EndOfText))
		}
		if int64(top) >= int64(m.Tokenizer.VocabSize) {
			return fmt.Errorf("%w: %d, the vocabulary has %d", ErrToken, top, m.Tokenizer.VocabSize)
		}
		if !ok {
			return fmt.Errorf("%w: a document does not begin with the end-of-text token", ErrShard)
		}
		if b.mask != nil && slices.Max(b.mask) > 1 {
			return fmt.Errorf("%w: its loss mask has other values than 0 and 1", ErrShard)
		}
	}
	return nil
}

// startWith reports whether every row begins with this token.
func startWith[T cmp.Ordered](tokens []T, offsets []int32, first T) bool {
	for _, o := range offsets[:len(offsets)-1] {
		if tokens[o] != first {
			return false
		}
	}
	return true
}

// Manifest returns the description of the set, which must not be changed.
func (s *Set) Manifest() *Manifest { return s.manifest }

// Hash identifies the set: the SHA-256 (hex) of the manifest's content, and through
// it of every token.
func (s *Set) Hash() string { return s.hash }

// Tokenizer returns the tokenizer that made the tokens.
func (s *Set) Tokenizer() tokenizer.Tokenizer { return s.tokenizer }

// Split returns Train or HeldOut, which may be empty.
func (s *Set) Split(name string) *Split {
	if name == HeldOut {
		return s.splits[1]
	}
	return s.splits[0]
}

// Close unmaps the files. No view may be used after it.
func (s *Set) Close() error {
	var err error
	for _, release := range s.release {
		err = errors.Join(err, release())
	}
	s.release = nil
	return err
}

// Rows is the number of documents.
func (s *Split) Rows() int64 { return s.totals.Rows }

// Tokens is the number of tokens.
func (s *Split) Tokens() int64 { return s.totals.Tokens }

// Bytes is the number of bytes of text.
func (s *Split) Bytes() int64 { return s.totals.Bytes }

// find returns the batch of a row, and the row's number in it.
func (s *Split) find(i int64) (*batch, int) {
	n, found := slices.BinarySearch(s.first, i)
	if !found {
		n--
	}
	return &s.batches[n], int(i - s.first[n])
}

// RowTokens is the number of tokens of a row.
func (s *Split) RowTokens(i int64) int {
	b, r := s.find(i)
	return int(b.offsets[r+1] - b.offsets[r])
}

// Row returns a view of a row.
func (s *Split) Row(i int64) Row {
	b, r := s.find(i)
	from, to := b.offsets[r], b.offsets[r+1]
	var row Row
	if b.wide != nil {
		row.Wide = b.wide[from:to:to]
	} else {
		row.Narrow = b.narrow[from:to:to]
	}
	if b.mask != nil {
		row.Mask = b.mask[from:to:to]
	}
	return row
}

// Len is the number of tokens.
func (r Row) Len() int { return len(r.Narrow) + len(r.Wide) }

// Token returns a token of the row.
func (r Row) Token(i int) uint32 {
	if r.Wide != nil {
		return r.Wide[i]
	}
	return uint32(r.Narrow[i])
}
