package tokenizer

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"sync"
	"unicode/utf8"

	"github.com/pkoukk/tiktoken-go"
	loader "github.com/pkoukk/tiktoken-go-loader"
)

// tiktokenNames are the vocabularies of OpenAI's models that the binary carries.
var tiktokenNames = []string{
	tiktoken.MODEL_R50K_BASE, tiktoken.MODEL_P50K_BASE, tiktoken.MODEL_CL100K_BASE, tiktoken.MODEL_O200K_BASE,
}

// endOfTextIDs are the ids of <|endoftext|>, which the library does not tell.
var endOfTextIDs = map[string]uint32{
	tiktoken.MODEL_R50K_BASE: 50256, tiktoken.MODEL_P50K_BASE: 50256,
	tiktoken.MODEL_CL100K_BASE: 100257, tiktoken.MODEL_O200K_BASE: 199999,
}

// tiktokenSizes are the sizes of the vocabularies as published, special tokens and
// gaps between them included.
var tiktokenSizes = map[string]int{
	tiktoken.MODEL_R50K_BASE: 50257, tiktoken.MODEL_P50K_BASE: 50281,
	tiktoken.MODEL_CL100K_BASE: 100277, tiktoken.MODEL_O200K_BASE: 200019,
}

// Tiktoken is one of OpenAI's vocabularies, by the library tiktoken-go. Text that
// spells a special token is ordinary text.
type Tiktoken struct {
	name   string
	hash   string
	bpe    *tiktoken.Tiktoken
	text   [][]byte    // of each id; empty for the end of text and for gaps
	single [256]uint32 // ids of the single bytes
}

var offline = sync.OnceFunc(func() { tiktoken.SetBpeLoader(loader.NewOfflineLoader()) })

func newTiktoken(name string) (*Tiktoken, error) {
	offline()
	bpe, err := tiktoken.GetEncoding(name)
	if err != nil {
		return nil, fmt.Errorf("tokenizer %s: %w", name, err)
	}
	t := &Tiktoken{name: name, bpe: bpe, text: make([][]byte, tiktokenSizes[name])}
	h := sha256.New()
	h.Write([]byte("tiktoken 1: " + name + "\n"))
	var prefix [8]byte
	for id := range t.text {
		text := bpe.Decode([]int{id})
		if uint32(id) == endOfTextIDs[name] {
			text = ""
		}
		t.text[id] = []byte(text)
		if len(text) == 1 {
			t.single[text[0]] = uint32(id)
		}
		binary.LittleEndian.PutUint64(prefix[:], uint64(len(text)))
		h.Write(prefix[:])
		h.Write(t.text[id])
	}
	t.hash = hex.EncodeToString(h.Sum(nil))
	return t, nil
}

func (t *Tiktoken) ID() string                 { return t.name }
func (t *Tiktoken) Hash() string               { return t.hash }
func (t *Tiktoken) VocabSize() int             { return len(t.text) }
func (t *Tiktoken) EndOfText() uint32          { return endOfTextIDs[t.name] }
func (t *Tiktoken) Decode(ids []uint32) []byte { return decode(t.text, ids) }
func (t *Tiktoken) Length(id uint32) int       { return length(t.text, id) }

// Encode gives the library the stretches of valid UTF-8, which is all it can
// represent, and encodes other bytes one by one.
func (t *Tiktoken) Encode(dst []uint32, text []byte) []uint32 {
	for len(text) > 0 {
		valid := validPrefix(text)
		for _, id := range t.bpe.EncodeOrdinary(string(text[:valid])) {
			dst = append(dst, uint32(id))
		}
		text = text[valid:]
		for len(text) > 0 {
			if r, n := utf8.DecodeRune(text); r != utf8.RuneError || n != 1 {
				break
			}
			dst = append(dst, t.single[text[0]])
			text = text[1:]
		}
	}
	return dst
}

// validPrefix is the length of the longest prefix that is valid UTF-8.
func validPrefix(text []byte) int {
	if utf8.Valid(text) {
		return len(text)
	}
	n := 0
	for {
		r, size := utf8.DecodeRune(text[n:])
		if r == utf8.RuneError && size <= 1 {
			return n
		}
		n += size
	}
}
