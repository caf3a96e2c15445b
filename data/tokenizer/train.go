package tokenizer

import (
	"container/heap"
	"fmt"
)

// Trainer finds the merges of a BPE vocabulary in text. It keeps the distinct
// words of the text, not the text.
type Trainer struct {
	index  map[string]int
	words  []string
	counts []int64
}

// NewTrainer returns a trainer that has seen no text.
func NewTrainer() *Trainer { return &Trainer{index: map[string]int{}} }

// Add counts the words of one document.
func (t *Trainer) Add(text []byte) {
	for len(text) > 0 {
		n := nextWord(text)
		if n > 1 {
			t.count(text[:n])
		}
		text = text[n:]
	}
}

func (t *Trainer) count(word []byte) {
	i, ok := t.index[string(word)]
	if !ok {
		i = len(t.words)
		t.words = append(t.words, string(word))
		t.counts = append(t.counts, 0)
		t.index[t.words[i]] = i
	}
	t.counts[i]++
}

// Train returns a vocabulary of the given size, bytes and end of text included:
// again and again the most frequent pair of neighbours becomes a token (of equals,
// the pair with the smaller ids). The result is a pure function of the words and
// their counts.
func (t *Trainer) Train(vocabSize int) (*BPE, error) {
	if vocabSize <= byteVocabulary || vocabSize > byteVocabulary+maxMerges {
		return nil, fmt.Errorf("%w: %d tokens are not between %d and %d", ErrTraining, vocabSize, byteVocabulary+1, byteVocabulary+maxMerges)
	}
	s := newMerging(t)
	merges := make([][2]uint32, 0, vocabSize-firstMerge)
	for len(merges) < cap(merges) {
		best, ok := s.next()
		if !ok {
			return nil, fmt.Errorf("%w: the text has pairs that repeat for %d tokens only, not %d; use more text or a smaller vocabulary",
				ErrTraining, firstMerge+len(merges), vocabSize)
		}
		s.apply(best, uint32(firstMerge+len(merges)))
		merges = append(merges, best)
	}
	return newBPE(merges)
}

type pair = [2]uint32

// pairInfo is what is known of one pair of neighbours.
type pairInfo struct {
	count int64
	words []int32 // that have or had it; may repeat
}

// merging is the state of a training: words as ids, and the pairs in them.
type merging struct {
	words  [][]uint32
	counts []int64
	pairs  map[pair]*pairInfo
	queue  pairQueue
}

func newMerging(t *Trainer) *merging {
	s := &merging{words: make([][]uint32, len(t.words)), counts: t.counts, pairs: map[pair]*pairInfo{}}
	for w, word := range t.words {
		ids := make([]uint32, len(word))
		for i := range len(word) {
			ids[i] = uint32(word[i])
		}
		s.words[w] = ids
		for i := range len(ids) - 1 {
			s.addPair(pair{ids[i], ids[i+1]}, w)
		}
	}
	for p, info := range s.pairs {
		s.queue = append(s.queue, candidate{info.count, p})
	}
	heap.Init(&s.queue)
	return s
}

func (s *merging) addPair(p pair, word int) {
	info := s.pairs[p]
	if info == nil {
		info = &pairInfo{}
		s.pairs[p] = info
	}
	info.count += s.counts[word]
	if n := len(info.words); n == 0 || info.words[n-1] != int32(word) {
		info.words = append(info.words, int32(word))
	}
}

// next takes the most frequent pair that occurs at least twice. Counts in the queue
// may be too high, never too low: a pair whose count fell goes back with the new one.
func (s *merging) next() (pair, bool) {
	for len(s.queue) > 0 {
		top := s.queue[0]
		now := s.pairs[top.pair].count
		if now == top.count {
			heap.Pop(&s.queue)
			return top.pair, now > 1
		}
		s.queue[0].count = now
		heap.Fix(&s.queue, 0)
	}
	return pair{}, false
}

// apply merges a pair wherever it stands.
func (s *merging) apply(p pair, id uint32) {
	var created []pair
	for _, w := range s.pairs[p].words {
		created = s.mergeWord(int(w), p, id, created)
	}
	delete(s.pairs, p)
	for _, c := range created {
		if info := s.pairs[c]; info.count > 0 {
			heap.Push(&s.queue, candidate{info.count, c})
		}
	}
}

// mergeWord merges a pair in one word and brings the counts of its neighbours up to
// date. It appends the pairs seen for the first time.
func (s *merging) mergeWord(w int, p pair, id uint32, created []pair) []pair {
	ids, n := s.words[w], 0
	for i := 0; i < len(ids); i++ {
		if i+1 < len(ids) && ids[i] == p[0] && ids[i+1] == p[1] {
			ids[n] = id
			i++
		} else {
			ids[n] = ids[i]
		}
		n++
	}
	if n == len(ids) {
		return created // merged before, under another entry of the list
	}
	s.forget(w, p, id, ids[:n])
	s.words[w] = ids[:n]
	for i := range n - 1 {
		q := pair{ids[i], ids[i+1]}
		if q[0] != id && q[1] != id {
			continue
		}
		if s.pairs[q] == nil {
			created = append(created, q)
		}
		s.addPair(q, w)
	}
	return created
}

// forget takes the pairs that a merge ended from their counts: those around and in
// each new id, as they were before.
func (s *merging) forget(w int, p pair, id uint32, merged []uint32) {
	last := func(x uint32) uint32 { // the id that stood at the right end of x
		if x == id {
			return p[1]
		}
		return x
	}
	for i, x := range merged {
		if i > 0 && (x == id || merged[i-1] == id) {
			first := x
			if x == id {
				first = p[0]
			}
			s.drop(pair{last(merged[i-1]), first}, w)
		}
		if x == id {
			s.drop(p, w)
		}
	}
}

func (s *merging) drop(p pair, w int) { s.pairs[p].count -= s.counts[w] }

// candidate is a pair in the queue with the count it had when it entered.
type candidate struct {
	count int64
	pair  pair
}

// pairQueue is a heap: the highest count first, of equals the smaller ids.
type pairQueue []candidate

func (q pairQueue) Len() int { return len(q) }
func (q pairQueue) Less(i, j int) bool {
	a, b := q[i], q[j]
	if a.count != b.count {
		return a.count > b.count
	}
	if a.pair[0] != b.pair[0] {
		return a.pair[0] < b.pair[0]
	}
	return a.pair[1] < b.pair[1]
}
func (q pairQueue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *pairQueue) Push(x any)   { *q = append(*q, x.(candidate)) }
func (q *pairQueue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
