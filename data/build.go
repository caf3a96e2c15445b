package data

import (
	"cmp"
	"context"
	"runtime"

	"jambalaya/data/shard"
	"jambalaya/data/source"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/vfs"
)

// Progress tells how far the preparation of a source is.
type Progress struct {
	Source string // as configured
	Stage  string // "train tokenizer" or "shard"
	Done   int64  // bytes of the input
	Total  int64
}

// ShardOptions says how Shard stores a source.
type ShardOptions struct {
	Tokenizer   tokenizer.Tokenizer
	Compression string         // shard.Uncompressed (or empty) or shard.Zstd
	Progress    func(Progress) // called from the goroutine that called Shard; may be nil
}

// Shard reads a source to its end and writes it as a data set to the folder dir of
// fsys, complete or not at all. Tokenizing uses all cores; the result does not
// depend on how many.
func Shard(ctx context.Context, fsys vfs.FS, dir string, src *source.Source, opts ShardOptions) (*shard.Manifest, error) {
	w, err := shard.Create(fsys, dir, shard.Options{
		Tokenizer: opts.Tokenizer, Compression: opts.Compression, LossMask: src.HasMask(),
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := startPipeline(ctx, src, opts.Tokenizer)
	for c := range p.ordered {
		<-c.ready
		if err == nil {
			err = cmp.Or(c.write(w), c.err, ctx.Err())
			if err == nil && opts.Progress != nil {
				opts.Progress(Progress{src.Name(), "shard", c.read, src.Size()})
			}
		}
		if err != nil {
			cancel() // and take what is under way until the pipeline ends
		}
		p.free <- c
	}
	if err = cmp.Or(err, ctx.Err()); err != nil {
		w.Abort()
		return nil, err
	}
	return w.Commit()
}

// chunkBytes is the amount of text that one worker takes at a time.
const chunkBytes = 1 << 20

// chunk is a run of documents: text, and then tokens.
type chunk struct {
	docs   []chunkDoc
	text   []byte
	masked []uint8 // of text, if hasMask
	tokens []uint32
	mask   []uint8 // of tokens, if hasMask

	hasMask bool
	read    int64         // bytes of the input read when the chunk was full
	err     error         // that ended the input after these documents
	ready   chan struct{} // receives a value when tokens are complete
}

// chunkDoc is one document of a chunk: where its text and its tokens end.
type chunkDoc struct {
	split             string
	textEnd, tokenEnd int
}

func (c *chunk) reset() {
	c.docs, c.text, c.masked, c.tokens, c.mask = c.docs[:0], c.text[:0], c.masked[:0], c.tokens[:0], c.mask[:0]
	c.read, c.err = 0, nil
}

func (c *chunk) add(doc source.Document) {
	split := shard.Train
	if doc.HeldOut {
		split = shard.HeldOut
	}
	c.text = append(c.text, doc.Text...)
	if c.hasMask {
		c.masked = append(c.masked, doc.Mask...)
		for len(c.masked) < len(c.text) {
			c.masked = append(c.masked, 1)
		}
	}
	c.docs = append(c.docs, chunkDoc{split: split, textEnd: len(c.text)})
	c.read = doc.Read
}

// encode fills in the tokens.
func (c *chunk) encode(tok tokenizer.Tokenizer) {
	start := 0
	for i := range c.docs {
		d := &c.docs[i]
		c.tokens = append(c.tokens, tok.EndOfText())
		first := len(c.tokens)
		c.tokens = tok.Encode(c.tokens, c.text[start:d.textEnd])
		if c.hasMask {
			c.mask = append(c.mask, 1) // where a text ends is always learnt
			c.maskTokens(tok, c.tokens[first:], c.masked[start:d.textEnd])
		}
		start, d.tokenEnd = d.textEnd, len(c.tokens)
	}
}

// maskTokens learns the tokens of which all bytes are to be learnt.
func (c *chunk) maskTokens(tok tokenizer.Tokenizer, tokens []uint32, masked []uint8) {
	for _, id := range tokens {
		n := tok.Length(id)
		learn := uint8(1)
		for _, m := range masked[:n] {
			learn &= m
		}
		masked = masked[n:]
		c.mask = append(c.mask, learn)
	}
}

func (c *chunk) write(w *shard.Writer) error {
	text, token := 0, 0
	for _, d := range c.docs {
		var mask []uint8
		if c.hasMask {
			mask = c.mask[token:d.tokenEnd]
		}
		if err := w.Add(d.split, c.tokens[token:d.tokenEnd], mask, d.textEnd-text); err != nil {
			return err
		}
		text, token = d.textEnd, d.tokenEnd
	}
	return nil
}

// pipeline reads a source into chunks, has them tokenized in any order, and hands
// them out in the order of the source. Chunks go round: ordered, then free.
type pipeline struct {
	ordered chan *chunk
	free    chan *chunk
}

func startPipeline(ctx context.Context, src *source.Source, tok tokenizer.Tokenizer) *pipeline {
	workers := runtime.GOMAXPROCS(0)
	chunks := 2*workers + 2
	p := &pipeline{ordered: make(chan *chunk, chunks), free: make(chan *chunk, chunks)}
	for range chunks {
		p.free <- &chunk{hasMask: src.HasMask(), ready: make(chan struct{}, 1)}
	}
	work := make(chan *chunk, chunks)
	for range workers {
		go func() {
			for c := range work {
				c.encode(tok)
				c.ready <- struct{}{}
			}
		}()
	}
	go func() {
		defer close(p.ordered)
		defer close(work)
		p.fill(ctx, src, work)
	}()
	return p
}

// fill reads the source until its end, an error, or the end of the context.
func (p *pipeline) fill(ctx context.Context, src *source.Source, work chan<- *chunk) {
	var c *chunk
	send := func() {
		work <- c
		p.ordered <- c
		c = nil
	}
	for doc, err := range src.Documents() {
		if c == nil {
			c = <-p.free
			c.reset()
		}
		if err != nil {
			c.err = err
			break
		}
		c.add(doc)
		if len(c.text) >= chunkBytes {
			send()
		}
		if ctx.Err() != nil {
			break
		}
	}
	if c != nil {
		send()
	}
}
