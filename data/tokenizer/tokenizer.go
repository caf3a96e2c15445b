package tokenizer

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Tokenizer maps text to ids in [0, VocabSize) and back.
type Tokenizer interface {
	// ID names the tokenizer for people: "bytes", "bpe-8192", "cl100k_base".
	ID() string
	// Hash is the SHA-256 (hex) of the definition.
	Hash() string
	// VocabSize is one more than the largest id.
	VocabSize() int
	// EndOfText is the id that separates documents.
	EndOfText() uint32
	// Encode appends the ids of text to dst.
	Encode(dst []uint32, text []byte) []uint32
	// Decode returns the text of the ids.
	Decode(ids []uint32) []byte
	// Length is the number of bytes of text that an id stands for: 0 for
	// EndOfText and for ids without a meaning.
	Length(id uint32) int
}

var (
	// ErrUnknown marks a name that no tokenizer has.
	ErrUnknown = errors.New("unknown tokenizer")
	// ErrFile marks a tokenizer file that cannot be believed.
	ErrFile = errors.New("not a tokenizer file we can use")
	// ErrTraining marks a vocabulary that cannot be trained.
	ErrTraining = errors.New("cannot train this vocabulary")
)

// Names lists what Named knows.
func Names() []string { return append([]string{bytesID}, tiktokenNames...) }

// Named returns a tokenizer whose vocabulary is built in.
func Named(name string) (Tokenizer, error) {
	switch {
	case name == bytesID:
		return Bytes{}, nil
	case slices.Contains(tiktokenNames, name):
		return newTiktoken(name)
	}
	return nil, fmt.Errorf("%w %q; the built-in ones are %s", ErrUnknown, name, strings.Join(Names(), ", "))
}
