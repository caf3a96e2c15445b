package data

import (
	"fmt"
	"math"
	"slices"
	"sync"

	"jambalaya/data/shard"
	"jambalaya/internal/prng"
)

// Ignored is the target of a position that teaches nothing: a masked token or
// padding.
const Ignored = -100

// blockRows is the number of documents between two known positions of an order.
const blockRows = 64

// stream is the endless text of one source: its documents in an order, then, in the
// next epoch, all of them again in another.
type stream struct {
	split *shard.Split
	name  string // of the random sequences
	seed  uint64
	keep  bool // the order of the files, in every epoch

	mu     sync.Mutex
	recent [2]*order // the epochs used last; a sample may lie in two
	round  int64     // whose windows the permutation orders
	deal   permutation
}

// order is the order of the documents in one epoch: 4.2 bytes each.
type order struct {
	epoch int64
	rows  []uint32 // nil is the order of the files
	start []int64  // tokens before every blockRows-th document, and in total
}

func newStream(split *shard.Split, seed uint64, name string) (*stream, error) {
	if split.Rows() > math.MaxUint32 {
		return nil, fmt.Errorf("data: %s has %d documents; %d is the most: join short ones", name, split.Rows(), math.MaxUint32)
	}
	return &stream{split: split, seed: seed, name: name}, nil
}

// window returns which window of the stream sample k is: windows are dealt out in
// rounds of as many as an epoch has, each round in an order of its own.
func (s *stream) window(k int64, length int) int64 {
	n := s.split.Tokens() / int64(length)
	round := k / n
	s.mu.Lock()
	if s.round != round || s.deal.n != uint64(n) {
		s.round, s.deal = round, newPermutation(n, prng.New(s.seed, fmt.Sprintf("data/%s/windows/%d", s.name, round)))
	}
	deal := s.deal
	s.mu.Unlock()
	return round*n + deal.at(k%n)
}

// order returns the order of an epoch.
func (s *stream) order(epoch int64) *order {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.recent {
		if o != nil && o.epoch == epoch {
			if i == 1 {
				s.recent[0], s.recent[1] = o, s.recent[0]
			}
			return o
		}
	}
	o := s.newOrder(epoch)
	s.recent[0], s.recent[1] = o, s.recent[0]
	return o
}

func (s *stream) newOrder(epoch int64) *order {
	n := s.split.Rows()
	o := &order{epoch: epoch, start: make([]int64, 0, n/blockRows+2)}
	if !s.keep {
		o.rows = shuffle(int(n), prng.New(s.seed, fmt.Sprintf("data/%s/%d", s.name, epoch)))
	}
	tokens := int64(0)
	for i := range n {
		if i%blockRows == 0 {
			o.start = append(o.start, tokens)
		}
		tokens += int64(s.split.RowTokens(o.row(i)))
	}
	o.start = append(o.start, tokens)
	return o
}

// shuffle returns a permutation, each equally likely (Fisher and Yates).
func shuffle(n int, r *prng.Rand) []uint32 {
	rows := make([]uint32, n)
	for i := range rows {
		j := r.IntN(i + 1)
		rows[i] = rows[j]
		rows[j] = uint32(i)
	}
	return rows
}

// row returns the number of the n-th document of the order.
func (o *order) row(n int64) int64 {
	if o.rows == nil {
		return n
	}
	return int64(o.rows[n])
}

// cursor is a place in a stream: a token of a document of an epoch.
type cursor struct {
	stream *stream
	order  *order
	n      int64 // the document's place in the order
	row    shard.Row
	token  int
}

// seek returns the place of a token of the stream.
func (s *stream) seek(position int64) cursor {
	total := s.split.Tokens()
	o := s.order(position / total)
	position %= total
	block, found := slices.BinarySearch(o.start, position)
	if !found {
		block--
	}
	n, left := int64(block)*blockRows, int(position-o.start[block])
	for {
		length := s.split.RowTokens(o.row(n))
		if left < length {
			return cursor{s, o, n, s.split.Row(o.row(n)), left}
		}
		left -= length
		n++
	}
}

// nextDocument moves to the start of the following document.
func (c *cursor) nextDocument() {
	c.n++
	if c.n == c.stream.split.Rows() {
		c.order, c.n = c.stream.order(c.order.epoch+1), 0
	}
	c.row, c.token = c.stream.split.Row(c.order.row(c.n)), 0
}

// fill writes one row of len(inputs) positions: tokens, the tokens that follow them,
// and the number of each position's document within the row, from 0. It reads one
// token more than the row has positions.
func (c *cursor) fill(inputs, targets, docs []int32) {
	document := int32(0)
	for at := 0; ; document++ {
		n := min(c.row.Len()-c.token, len(inputs)+1-at)
		place(c.row, c.token, n, at, inputs, targets)
		inside := docs[min(at, len(docs)):min(at+n, len(docs))]
		for i := range inside {
			inside[i] = document
		}
		at += n
		if at > len(inputs) {
			return
		}
		c.nextDocument()
	}
}

// place writes n tokens of a document, from the given one on, to the positions from
// at on, and as targets to those before.
func place(row shard.Row, token, n, at int, inputs, targets []int32) {
	if row.Wide != nil {
		widen(inputs[at:min(at+n, len(inputs))], row.Wide[token:])
	} else {
		widen(inputs[at:min(at+n, len(inputs))], row.Narrow[token:])
	}
	if at == 0 { // nothing comes before the first token
		at, n, token = 1, n-1, token+1
	}
	targets = targets[at-1 : at-1+n]
	if row.Wide != nil {
		widen(targets, row.Wide[token:])
	} else {
		widen(targets, row.Narrow[token:])
	}
	if row.Mask != nil {
		for i, learn := range row.Mask[token : token+n] {
			if learn == 0 {
				targets[i] = Ignored
			}
		}
	}
}

func widen[T uint16 | uint32](dst []int32, src []T) {
	src = src[:len(dst)]
	for i, id := range src {
		dst[i] = int32(id)
	}
}
