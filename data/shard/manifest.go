package shard

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"regexp"

	"jambalaya/data/internal/sealed"
	"jambalaya/data/tokenizer"
)

const (
	// FormatVersion is that of the manifest and the shards it names.
	FormatVersion = 1

	// ManifestName is the file that makes a folder a data set.
	ManifestName  = "manifest.json"
	tokenizerName = "tokenizer.json"

	maxManifest  = 16 << 20
	maxTokenizer = 64 << 20
	maxFiles     = 1 << 16
	maxVocabSize = 1 << 24
)

// Names of the splits.
const (
	Train   = "train"
	HeldOut = "held-out"
)

// Ways to store shards.
const (
	Uncompressed = "none" // for training: read where it lies
	Zstd         = "zstd" // to ship: expanded into memory when opened
)

// Manifest describes a data set.
type Manifest struct {
	FormatVersion int       `json:"format_version"`
	Tokenizer     Tokenizer `json:"tokenizer"`
	TokenType     string    `json:"token_type"` // uint16 or uint32
	LossMask      bool      `json:"loss_mask"`
	Compression   string    `json:"compression"`
	Splits        []Totals  `json:"splits"` // train, then held-out if there is any
}

// Tokenizer says which tokenizer made the tokens.
type Tokenizer struct {
	ID        string `json:"id"`
	SHA256    string `json:"sha256"`
	VocabSize int    `json:"vocab_size"`
	EndOfText uint32 `json:"end_of_text"`
	File      *File  `json:"file,omitempty"` // if it is not built in
}

// Totals describes one split.
type Totals struct {
	Name   string      `json:"name"`
	Rows   int64       `json:"rows"`
	Tokens int64       `json:"tokens"`
	Bytes  int64       `json:"bytes"` // of text
	Files  []ShardFile `json:"files"`
}

// File is a file of the data set.
type File struct {
	Name   string `json:"name"`
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// ShardFile is one shard.
type ShardFile struct {
	File
	Rows   int64 `json:"rows"`
	Tokens int64 `json:"tokens"`
}

// Split returns the totals of a split, all zero if there is none.
func (m *Manifest) Split(name string) Totals {
	for _, s := range m.Splits {
		if s.Name == name {
			return s
		}
	}
	return Totals{Name: name}
}

// ParseManifest reads the contents of a manifest and checks all that can be checked
// without the files. It returns the SHA-256 (hex) of the content, which identifies
// the data set: its tokens, their order and how they were made.
func ParseManifest(data []byte) (m *Manifest, sum string, err error) {
	m = &Manifest{}
	if sum, err = sealed.Unmarshal(data, m); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrManifest, err)
	}
	if err := m.check(); err != nil {
		return nil, "", fmt.Errorf("%w: %w", ErrManifest, err)
	}
	return m, sum, nil
}

var (
	fileName = regexp.MustCompile(`^[a-z0-9_-][a-z0-9._-]{0,99}$`)
	hexSum   = regexp.MustCompile(`^[0-9a-f]{64}$`)
)

func (m *Manifest) check() error {
	t := m.Tokenizer
	switch {
	case m.FormatVersion != FormatVersion:
		return fmt.Errorf("it has format version %d, this program reads %d", m.FormatVersion, FormatVersion)
	case t.VocabSize < 1 || t.VocabSize > maxVocabSize || int64(t.EndOfText) >= int64(t.VocabSize):
		return fmt.Errorf("end of text %d and vocabulary size %d make no sense", t.EndOfText, t.VocabSize)
	case !hexSum.MatchString(t.SHA256) || len(t.ID) > 100:
		return fmt.Errorf("the tokenizer is not identified")
	case m.TokenType != tokenType(t.VocabSize):
		return fmt.Errorf("token_type %.20q does not fit a vocabulary of %d", m.TokenType, t.VocabSize)
	case m.Compression != Uncompressed && m.Compression != Zstd:
		return fmt.Errorf("unknown compression %.20q", m.Compression)
	case len(m.Splits) == 0 || len(m.Splits) > 2 || m.Splits[0].Name != Train || len(m.Splits) == 2 && m.Splits[1].Name != HeldOut:
		return errors.New("the splits are not train and held-out")
	}
	names := map[string]bool{ManifestName: true}
	if t.File != nil {
		if err := t.File.check(names); err != nil {
			return err
		}
	}
	for _, s := range m.Splits {
		if err := s.check(names); err != nil {
			return fmt.Errorf("split %s: %w", s.Name, err)
		}
	}
	return nil
}

func (s *Totals) check(names map[string]bool) error {
	if len(s.Files) > maxFiles || s.Bytes < 0 {
		return errors.New("sizes out of range")
	}
	var rows, tokens int64
	for _, f := range s.Files {
		if err := f.check(names); err != nil {
			return err
		}
		// A row takes an offset of 4 bytes and at least one token; compressed ones
		// may take less, but no file holds this many.
		if f.Rows < 1 || f.Tokens < f.Rows || f.Tokens > math.MaxInt64/maxFiles {
			return fmt.Errorf("%s: %d rows of %d tokens make no sense", f.Name, f.Rows, f.Tokens)
		}
		rows, tokens = rows+f.Rows, tokens+f.Tokens
	}
	if rows != s.Rows || tokens != s.Tokens {
		return fmt.Errorf("the files have %d rows and %d tokens, the split %d and %d", rows, tokens, s.Rows, s.Tokens)
	}
	if s.Rows == 0 {
		return ErrEmpty
	}
	return nil
}

func (f *File) check(names map[string]bool) error {
	switch {
	case !fileName.MatchString(f.Name):
		return fmt.Errorf("%.40q is not a file name we would write", f.Name)
	case names[f.Name]:
		return fmt.Errorf("%s is named twice", f.Name)
	case f.Size < 0 || !hexSum.MatchString(f.SHA256):
		return fmt.Errorf("%s has no valid size and SHA-256", f.Name)
	}
	names[f.Name] = true
	return nil
}

// tokenType is the narrowest type for a vocabulary.
func tokenType(vocabSize int) string {
	if vocabSize <= 1<<16 {
		return "uint16"
	}
	return "uint32"
}

// tokenizer returns the tokenizer that a manifest names, from its own file if it
// has one.
func (m *Manifest) tokenizer(root *os.Root) (tokenizer.Tokenizer, error) {
	tok, err := func() (tokenizer.Tokenizer, error) {
		if m.Tokenizer.File == nil {
			return tokenizer.Named(m.Tokenizer.ID)
		}
		data, err := readSmall(root, m.Tokenizer.File.Name, maxTokenizer)
		if err != nil {
			return nil, err
		}
		return tokenizer.Parse(data)
	}()
	if err != nil {
		return nil, err
	}
	t := m.Tokenizer
	if tok.Hash() != t.SHA256 || tok.VocabSize() != t.VocabSize || tok.EndOfText() != t.EndOfText {
		return nil, fmt.Errorf("%w: its tokenizer %s is not the one that this program knows under that name", ErrManifest, t.ID)
	}
	return tok, nil
}

// readSmall reads a file of at most limit bytes.
func readSmall(root *os.Root, name string, limit int64) ([]byte, error) {
	f, err := root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > limit {
		return nil, fmt.Errorf("%s is not a regular file of at most %d MB", name, limit>>20)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
