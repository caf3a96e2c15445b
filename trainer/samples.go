package trainer

import (
	"bytes"
	"fmt"
	"go/scanner"
	"go/token"
	"strings"

	"jambalaya/data/tokenizer"
	"jambalaya/internal/engine"
	"jambalaya/model"
)

// Generation is what Generate is asked for.
type Generation struct {
	Prompt       string
	MaxNewTokens int
	Sampling     model.Sampling
}

// Generate continues a prompt and passes each piece of text on as it comes. It
// stops at the end of the document.
func Generate(g *model.Generator, tok tokenizer.Tokenizer, req Generation, emit func(text []byte) error) error {
	ids := tok.Encode([]uint32{tok.EndOfText()}, []byte(req.Prompt))
	next := make([]int32, len(ids))
	for i, id := range ids {
		next[i] = int32(id)
	}
	if err := g.Reset(); err != nil {
		return err
	}
	s := model.NewSampler(req.Sampling)
	for range req.MaxNewTokens {
		logits, err := g.Read(next)
		if err != nil {
			return err
		}
		id := s.Next(logits, tok.VocabSize())
		if uint32(id) == tok.EndOfText() {
			return nil
		}
		if err := emit(tok.Decode([]uint32{uint32(id)})); err != nil {
			return err
		}
		next = append(next[:0], int32(id))
	}
	return nil
}

// sampleSet generates count samples, the prompts in turn, each with a seed of its
// own, and returns them with their prompts.
func sampleSet(be engine.Backend, w *model.Weights, tok tokenizer.Tokenizer, c RunConfig) ([]string, error) {
	if c.Samples == 0 {
		return nil, nil
	}
	longest := 0
	for _, p := range c.SamplePrompts {
		longest = max(longest, len(tok.Encode(nil, []byte(p))))
	}
	g, err := model.NewGenerator(be, w, 1+longest+c.SampleTokens)
	if err != nil {
		return nil, err
	}
	defer g.Close()
	var samples []string
	for i := range c.Samples {
		prompt := c.SamplePrompts[i%len(c.SamplePrompts)]
		text := bytes.NewBufferString(prompt)
		err := Generate(g, tok, Generation{Prompt: prompt, MaxNewTokens: c.SampleTokens, Sampling: c.sampling(i)},
			func(piece []byte) error { _, err := text.Write(piece); return err })
		if err != nil {
			return nil, err
		}
		samples = append(samples, text.String())
	}
	return samples, nil
}

// joinSamples is the text of samples.txt.
func joinSamples(samples []string) []byte {
	var b bytes.Buffer
	for i, s := range samples {
		fmt.Fprintf(&b, "==== sample %d ====\n%s\n\n", i+1, s)
	}
	return b.Bytes()
}

// scansAsGo counts the samples whose complete lines Go's own scanner reads
// without an error.
func scansAsGo(samples []string) int {
	n := 0
	for _, s := range samples {
		if end := strings.LastIndexByte(s, '\n'); end >= 0 {
			s = s[:end+1]
		}
		var sc scanner.Scanner
		files := token.NewFileSet()
		sc.Init(files.AddFile("", files.Base(), len(s)), []byte(s), nil, 0)
		for tok := token.ILLEGAL; tok != token.EOF; {
			_, tok, _ = sc.Scan()
		}
		if sc.ErrorCount == 0 {
			n++
		}
	}
	return n
}
