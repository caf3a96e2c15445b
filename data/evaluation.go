package data

import (
	"iter"

	"jambalaya/data/shard"
	"jambalaya/data/tokenizer"
)

// Evaluation is held-out text to measure a model on: the documents in the order of
// the files, cut into windows such that each token but a source's first is a target
// once. A window's first tokens have little context, as in training. The targets are
// always the same, whatever the batch size.
type Evaluation struct {
	parts     []evaluationPart
	tokenizer tokenizer.Tokenizer
	length    int
	targets   int64
	bytes     int64
}

// evaluationPart is the first tokens of one source's held-out text.
type evaluationPart struct {
	split   *shard.Split
	stream  *stream
	targets int64
}

func newEvaluation(parts []evaluationPart, tok tokenizer.Tokenizer, length int) *Evaluation {
	e := &Evaluation{parts: parts, tokenizer: tok, length: length}
	for i := range e.parts {
		p := &e.parts[i]
		p.stream = &stream{split: p.split, keep: true}
	}
	for id := range e.learnt() {
		e.targets++
		e.bytes += int64(tok.Length(id))
	}
	return e
}

// Targets is the number of targets that count, ends of texts included.
func (e *Evaluation) Targets() int64 { return e.targets }

// Bytes is the number of bytes of text that the targets stand for: bits a byte are
// the sum of losses in nats / ln 2 / Bytes.
func (e *Evaluation) Bytes() int64 { return e.bytes }

// Text returns those bytes, for a compressor to be measured on the same.
func (e *Evaluation) Text() []byte {
	ids := make([]uint32, 0, e.targets)
	for id := range e.learnt() {
		ids = append(ids, id)
	}
	return e.tokenizer.Decode(ids)
}

// learnt yields the targets that count.
func (e *Evaluation) learnt() iter.Seq[uint32] {
	return func(yield func(uint32) bool) {
		for b := range e.Batches(1) {
			for _, id := range b.Targets {
				if id != Ignored && !yield(uint32(id)) {
					return
				}
			}
		}
	}
}

// Batches yields all windows, so many rows at a time. The last batch is filled up
// with rows of ends of texts whose targets are Ignored. A batch is valid until the
// next; First counts windows.
func (e *Evaluation) Batches(rows int) iter.Seq[*Batch] {
	return func(yield func(*Batch) bool) {
		b := newBatch(rows * e.length)
		row := 0
		for _, p := range e.parts {
			for done := int64(0); done < p.targets; done += int64(e.length) {
				at := row * e.length
				e.window(p, done, b.Inputs[at:at+e.length], b.Targets[at:at+e.length], b.Docs[at:at+e.length])
				if row++; row < rows {
					continue
				}
				if !yield(&b) {
					return
				}
				b.First += int64(rows)
				row = 0
			}
		}
		if row > 0 {
			e.pad(b.Inputs[row*e.length:], b.Targets[row*e.length:], b.Docs[row*e.length:], 0)
			yield(&b)
		}
	}
}

// window fills one row with the targets after the first done ones of a part.
func (e *Evaluation) window(p evaluationPart, done int64, inputs, targets, docs []int32) {
	n := int(min(int64(e.length), p.targets-done))
	c := p.stream.seek(done)
	c.fill(inputs[:n], targets[:n], docs[:n])
	e.pad(inputs[n:], targets[n:], docs[n:], docs[n-1]+1)
}

// pad fills positions that do not count, as a document of their own.
func (e *Evaluation) pad(inputs, targets, docs []int32, document int32) {
	for i := range inputs {
		inputs[i], targets[i], docs[i] = int32(e.tokenizer.EndOfText()), Ignored, document
	}
}
