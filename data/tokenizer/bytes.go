package tokenizer

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// Bytes is the tokenizer that needs no vocabulary: the ids 0..255 are the bytes,
// 256 is the end of a text.
type Bytes struct{}

const (
	bytesID        = "bytes"
	byteEndOfText  = 256
	byteVocabulary = 257
)

func (Bytes) ID() string        { return bytesID }
func (Bytes) VocabSize() int    { return byteVocabulary }
func (Bytes) EndOfText() uint32 { return byteEndOfText }

func (Bytes) Hash() string {
	sum := sha256.Sum256([]byte("bytes 1: ids 0-255 are the bytes, 256 ends a text"))
	return hex.EncodeToString(sum[:])
}

func (Bytes) Encode(dst []uint32, text []byte) []uint32 {
	n := len(dst)
	dst = slices.Grow(dst, len(text))[:n+len(text)]
	for i, c := range text {
		dst[n+i] = uint32(c)
	}
	return dst
}

func (Bytes) Decode(ids []uint32) []byte {
	text := make([]byte, 0, len(ids))
	for _, id := range ids {
		if id < byteEndOfText {
			text = append(text, byte(id))
		}
	}
	return text
}

func (Bytes) Length(id uint32) int {
	if id < byteEndOfText {
		return 1
	}
	return 0
}
