package trainer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/scanner"
	"go/token"
	"os"
	"path/filepath"
	"strings"

	"jambalaya/data/tokenizer"
	"jambalaya/model"
	"jambalaya/parallel"
)

// Generation is what Generate is asked for.
type Generation struct {
	Prompt       string
	MaxNewTokens int
	Sampling     model.Sampling
}

// generate continues a prompt and passes each piece of text on as it comes. It
// stops at the end of the document. If ranks generate together, agree makes the choice of
// one of them that of all.
func generate(g *model.Generator, tok tokenizer.Tokenizer, req Generation, agree func(id *int32) error, emit func(text []byte) error) error {
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
		id := int32(s.Next(logits, tok.VocabSize()))
		if agree != nil {
			if err := agree(&id); err != nil {
				return err
			}
		}
		if uint32(id) == tok.EndOfText() {
			return nil
		}
		if err := emit(tok.Decode([]uint32{uint32(id)})); err != nil {
			return err
		}
		next = append(next[:0], id)
	}
	return nil
}

// sampleIfDue writes the set of samples that is due after a step. One that cannot be
// written, or for which there is no room, is no reason to stop.
func (r *run) sampleIfDue(ctx context.Context) error {
	every := int64(r.cfg.Trainer.SampleEvery)
	if every == 0 || r.done%every != 0 {
		return nil
	}
	samples, err := r.sample(ctx)
	if err != nil && r.opt.World != nil && !errors.Is(err, errNoSamples) {
		return err // the others wait
	}
	if err == nil && r.team.leads() {
		dir := r.dir.file(samplesDir)
		err = os.MkdirAll(dir, 0o755)
		if err == nil {
			err = writeFile(filepath.Join(dir, fmt.Sprintf("step-%08d.txt", r.done)), joinSamples(samples))
		}
	}
	if err != nil {
		r.printf("warning: samples of step %d: %v", r.done, err)
	}
	return nil
}

// errNoSamples is returned on all ranks if one of them cannot generate.
var errNoSamples = errors.New("no samples")

// sample generates a set of samples, the prompts in turn, each with a seed of its own, and
// returns them with their prompts. The rows of the mesh share them out; the ranks of a row
// have the experts together, and so generate together.
func (r *run) sample(ctx context.Context) ([]string, error) {
	c, team := r.cfg.Trainer, r.team
	if c.Samples == 0 {
		return nil, nil
	}
	s, err := r.newSampling(context.WithoutCancel(ctx)) // ranks stop together: before the next step
	if err == nil {
		defer s.generator.Close()
	}
	if err := team.allWell(s.ctx, "samples", err); err != nil {
		return nil, fmt.Errorf("%w: %w", errNoSamples, err)
	}
	at, samples := team.mesh.Coord(team.rank), make([]string, c.Samples)
	for i := at.Data; i < c.Samples; i += team.mesh.Data {
		if samples[i], err = s.text(i); err != nil {
			return nil, err
		}
	}
	for i := range samples {
		all, err := team.messages(s.ctx, "samples", samples[i])
		if err != nil {
			return nil, err
		}
		samples[i] = all[team.mesh.Rank(parallel.Coord{Data: i % team.mesh.Data})]
	}
	return samples, nil
}

// sampling is the generation of samples on the ranks of a row.
type sampling struct {
	*run
	ctx       context.Context
	generator *model.Generator
}

func (r *run) newSampling(ctx context.Context) (s sampling, err error) {
	s = sampling{run: r, ctx: ctx}
	c, longest := r.cfg.Trainer, 0
	for _, p := range c.SamplePrompts {
		longest = max(longest, len(r.corpus.Tokenizer().Encode(nil, []byte(p))))
	}
	capacity := 1 + longest + c.SampleTokens
	if r.team.mesh.Expert == 1 {
		s.generator, err = model.NewGenerator(r.device, r.weights, capacity)
	} else {
		row := newExchanger(r.team)
		row.at(ctx, 0)
		s.generator, err = model.NewSharedGenerator(r.device, r.weights, capacity, row)
	}
	return s, err
}

// text is sample i.
func (s sampling) text(i int) (string, error) {
	c := s.cfg.Trainer
	prompt := c.SamplePrompts[i%len(c.SamplePrompts)]
	text := bytes.NewBufferString(prompt)
	req := Generation{Prompt: prompt, MaxNewTokens: c.SampleTokens, Sampling: c.sampling(i)}
	err := generate(s.generator, s.corpus.Tokenizer(), req, s.agree, func(piece []byte) error {
		s.watchdog.alive()
		_, err := text.Write(piece)
		return err
	})
	return text.String(), err
}

// agree makes the choice of the first rank of the row that of all: what they compute may
// differ in the last bits.
func (s sampling) agree(id *int32) error {
	row := s.team.row
	if row.Size() == 1 {
		return nil
	}
	choice := []int32{*id}
	err := parallel.Broadcast(s.ctx, row, parallel.Op{Name: "next token"}, 0, choice)
	*id = choice[0]
	return err
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
