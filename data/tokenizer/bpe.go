package tokenizer

import (
	"fmt"
	"hash/maphash"
	"os"
	"slices"
	"sync/atomic"

	"jambalaya/data/internal/sealed"
)

// BPE is a byte-level byte-pair encoding: the ids 0..255 are the bytes, 256 is the
// end of a text, and 257+i is the i-th merge of two earlier ids. Text is cut into
// words (nextWord); within a word the earliest merge is applied first, the leftmost
// of its places first (Sennrich et al., "Neural machine translation of rare words
// with subword units", 2016, on bytes).
type BPE struct {
	merges [][2]uint32
	text   [][]byte // of each id
	pairs  pairTable
	hash   string
	file   []byte

	cache []atomic.Pointer[encodedWord] // direct-mapped by the word's hash
	seed  maphash.Seed
}

// encodedWord is one entry of the cache; it is never changed.
type encodedWord struct {
	word string
	ids  []uint32
}

const (
	firstMerge  = byteEndOfText + 1
	cacheSlots  = 1 << 16
	bpeFormat   = 1
	maxMerges   = 1 << 20
	maxBPEBytes = 64 << 20
)

// bpeFile is the content of a tokenizer file. Merges holds left and right ids in
// turn, two numbers a merge.
type bpeFile struct {
	FormatVersion int      `json:"format_version"`
	Words         string   `json:"words"`
	Merges        []uint32 `json:"merges"`
}

// Load reads a file that BPE.File wrote.
func Load(path string) (*BPE, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	if !info.Mode().IsRegular() || info.Size() > maxBPEBytes {
		return nil, fmt.Errorf("%s: %w: it is not a regular file of at most %d MB", path, ErrFile, maxBPEBytes>>20)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("tokenizer: %w", err)
	}
	bpe, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; train or copy it again", path, err)
	}
	return bpe, nil
}

// Parse reads the contents of a file that BPE.File wrote.
func Parse(data []byte) (*BPE, error) {
	var f bpeFile
	if _, err := sealed.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFile, err)
	}
	switch {
	case f.FormatVersion != bpeFormat:
		return nil, fmt.Errorf("%w: it has format version %d, this program reads %d", ErrFile, f.FormatVersion, bpeFormat)
	case f.Words != wordRule:
		return nil, fmt.Errorf("%w: it cuts words by rule %q, this program knows %q", ErrFile, f.Words, wordRule)
	case len(f.Merges)%2 != 0 || len(f.Merges) > 2*maxMerges:
		return nil, fmt.Errorf("%w: %d numbers do not make a list of at most %d merges", ErrFile, len(f.Merges), maxMerges)
	}
	merges := make([][2]uint32, len(f.Merges)/2)
	for i := range merges {
		merges[i] = [2]uint32{f.Merges[2*i], f.Merges[2*i+1]}
	}
	return newBPE(merges)
}

// newBPE builds the tokenizer of a list of merges and checks them.
func newBPE(merges [][2]uint32) (*BPE, error) {
	b := &BPE{
		merges: merges,
		text:   make([][]byte, firstMerge, firstMerge+len(merges)),
		pairs:  newPairTable(len(merges)),
		cache:  make([]atomic.Pointer[encodedWord], cacheSlots),
		seed:   maphash.MakeSeed(),
	}
	for c := range byteEndOfText {
		b.text[c] = []byte{byte(c)}
	}
	flat := make([]uint32, 0, 2*len(merges))
	for i, m := range merges {
		id := uint32(firstMerge + i)
		if m[0] >= id || m[1] >= id || m[0] == byteEndOfText || m[1] == byteEndOfText {
			return nil, fmt.Errorf("%w: merge %d joins ids %d and %d, which do not come before it", ErrFile, i, m[0], m[1])
		}
		text := slices.Concat(b.text[m[0]], b.text[m[1]])
		if len(text) > maxWord {
			return nil, fmt.Errorf("%w: merge %d makes a token of %d bytes; %d is the most", ErrFile, i, len(text), maxWord)
		}
		if !b.pairs.add(m[0], m[1], id) {
			return nil, fmt.Errorf("%w: merge %d joins the same ids as an earlier one", ErrFile, i)
		}
		b.text = append(b.text, text)
		flat = append(flat, m[0], m[1])
	}
	var err error
	b.file, b.hash, err = sealed.Marshal(bpeFile{bpeFormat, wordRule, flat})
	return b, err
}

func (b *BPE) ID() string        { return fmt.Sprintf("bpe-%d", b.VocabSize()) }
func (b *BPE) Hash() string      { return b.hash }
func (b *BPE) VocabSize() int    { return len(b.text) }
func (b *BPE) EndOfText() uint32 { return byteEndOfText }

// File returns what Load reads.
func (b *BPE) File() []byte { return slices.Clone(b.file) }

func (b *BPE) Decode(ids []uint32) []byte { return decode(b.text, ids) }

func (b *BPE) Length(id uint32) int { return length(b.text, id) }

func (b *BPE) Encode(dst []uint32, text []byte) []uint32 {
	for len(text) > 0 {
		n := nextWord(text)
		word := text[:n]
		text = text[n:]
		if n == 1 {
			dst = append(dst, uint32(word[0]))
			continue
		}
		slot := &b.cache[maphash.Bytes(b.seed, word)%cacheSlots]
		known := slot.Load()
		if known == nil || known.word != string(word) {
			known = &encodedWord{string(word), b.encodeWord(word)}
			slot.Store(known)
		}
		dst = append(dst, known.ids...)
	}
	return dst
}

// encodeWord applies the earliest merge that fits until none does.
func (b *BPE) encodeWord(word []byte) []uint32 {
	ids := make([]uint32, len(word))
	for i, c := range word {
		ids[i] = uint32(c)
	}
	for len(ids) > 1 {
		const none = ^uint32(0)
		best, at := none, 0
		for i := range len(ids) - 1 {
			if id, ok := b.pairs.get(ids[i], ids[i+1]); ok && id < best {
				best, at = id, i
			}
		}
		if best == none {
			break
		}
		ids[at] = best
		ids = slices.Delete(ids, at+1, at+2)
	}
	return slices.Clip(ids)
}

// decode joins the texts of ids, those outside the vocabulary left out.
func decode(texts [][]byte, ids []uint32) []byte {
	n := 0
	for _, id := range ids {
		n += length(texts, id)
	}
	text := make([]byte, 0, n)
	for _, id := range ids {
		if int64(id) < int64(len(texts)) {
			text = append(text, texts[id]...)
		}
	}
	return text
}

func length(texts [][]byte, id uint32) int {
	if int64(id) >= int64(len(texts)) {
		return 0
	}
	return len(texts[id])
}
