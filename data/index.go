package data

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	"jambalaya/data/shard"
)

// IndexSource is one source of an index.
type IndexSource struct {
	Name   string       // for messages
	Hash   string       // identifies the data set
	Split  *shard.Split // with the documents
	Weight float64      // above 0
}

// Index is the order of samples: a pure function of sources, weights, seed and
// sequence length that has no end. The stream of a source, its documents one after
// the other, is cut into windows of L+1 tokens, L tokens apart. An epoch's windows
// are dealt out in a random order, as those of one document resemble each other
// and would make poor batches. So each token is a target once an epoch. Index is safe
// for concurrent use.
type Index struct {
	length  int
	seed    uint64
	mix     *mix
	streams []*stream
	hash    string
}

// NewIndex makes an index for samples of sequenceLength positions.
func NewIndex(sources []IndexSource, seed uint64, sequenceLength int) (*Index, error) {
	x := &Index{length: sequenceLength, seed: seed}
	h := sha256.New()
	fmt.Fprintf(h, "index 2\nseed %d\nsequence_length %d\n", seed, sequenceLength)
	weights := make([]float64, len(sources))
	for i, s := range sources {
		weights[i] = s.Weight
		if s.Split.Tokens() <= int64(sequenceLength) {
			return nil, fmt.Errorf("%w: sequence_length %d needs %d tokens, %s has %d: choose a shorter sequence or more text",
				ErrTooShort, sequenceLength, sequenceLength+1, s.Name, s.Split.Tokens())
		}
		stream, err := newStream(s.Split, seed, fmt.Sprintf("source %d", i))
		if err != nil {
			return nil, err
		}
		x.streams = append(x.streams, stream)
	}
	var err error
	if x.mix, err = newMix(weights); err != nil {
		return nil, err
	}
	for i, s := range sources {
		fmt.Fprintf(h, "source %s %d\n", s.Hash, x.mix.share[i])
	}
	x.hash = hex.EncodeToString(h.Sum(nil))
	return x, nil
}

// Hash identifies the order: two indexes with one hash have the same samples.
func (x *Index) Hash() string { return x.hash }

// SequenceLength is the number of positions of a sample.
func (x *Index) SequenceLength() int { return x.length }

// Sample writes sample k, at least 0: its tokens, those that follow them (Ignored
// where the model is not to learn), and the number of each position's document
// within the sample, from 0. Each slice has SequenceLength elements.
func (x *Index) Sample(k int64, inputs, targets, docs []int32) {
	source, sample := x.mix.at(k)
	s := x.streams[source]
	c := s.seek(s.window(sample, x.length) * int64(x.length))
	c.fill(inputs, targets, docs)
}
