package experiments

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"jambalaya/data"
	"jambalaya/data/recall"
	"jambalaya/data/shard"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/vfs"
	"jambalaya/trainer"
)

// recallSeed is that of the problems: the same for all cells, whose own seeds
// shuffle them.
const recallSeed = 1

// mostProblemTokens bounds the problems of one length; longer runs see them again.
const mostProblemTokens = 16 << 20

// material is what cells read beside their configuration.
type material struct {
	problems *recall.Generator // nil without recall tasks
	orders   map[uint64]string // by seed: the hash of which samples come when
}

// prepare writes the problems that the grid learns from, shards its text, and adds
// the problems to the sources of every cell.
func (g *Grid) prepare(ctx context.Context, progress func(data.Progress)) (*material, error) {
	m := &material{orders: map[uint64]string{}}
	if g.Spec.Recall.Share > 0 {
		cfg := g.Reference().Config
		tok, err := recallTokenizer(ctx, cfg)
		if err != nil {
			return nil, err
		}
		if m.problems, err = recall.New(tok); err != nil {
			return nil, err
		}
		sources, err := g.Spec.Recall.sources(ctx, cfg, m.problems, tok)
		if err != nil {
			return nil, err
		}
		for _, c := range g.Cells {
			c.Config.Data.Sources = append(c.Config.Data.Sources[:len(cfg.Data.Sources):len(cfg.Data.Sources)], sources...)
		}
	}
	corpus, err := data.Open(ctx, g.Cells[0].Config.Data, progress)
	if err != nil {
		return nil, err
	}
	defer corpus.Close()
	if n, v := corpus.VocabSize(), g.Reference().Config.Model.VocabSize; n > v {
		return nil, fmt.Errorf("%w: model.vocab_size: %d is smaller than the tokenizer's vocabulary, %d", ErrGrid, v, n)
	}
	for _, seed := range g.Spec.Seeds {
		index, err := corpus.Index(seed)
		if err != nil {
			return nil, err
		}
		m.orders[seed] = index.Hash()
	}
	return m, nil
}

// recallTokenizer opens the tokenizer before any text is read.
func recallTokenizer(ctx context.Context, cfg trainer.Config) (tokenizer.Tokenizer, error) {
	tok, err := data.OpenTokenizer(ctx, cfg.Data.Tokenizer, nil, nil)
	if errors.Is(err, tokenizer.ErrTraining) {
		return nil, fmt.Errorf("%w: data.tokenizer: %s is not trained yet, but the recall problems need it: train it with cmd/shard and name its tokenizer.json, or use bytes",
			ErrGrid, cfg.Data.Tokenizer)
	}
	return tok, err
}

// sources writes the problems into the cache, unless they are there, and returns
// them with their weights beside the text's.
func (r Recall) sources(ctx context.Context, cfg trainer.Config, problems *recall.Generator, tok tokenizer.Tokenizer) ([]data.Source, error) {
	text := 0.0
	for _, s := range cfg.Data.Sources {
		text += cmp.Or(s.Weight, 1)
	}
	weight := text * r.Share / (1 - r.Share) / float64(len(r.Lengths))
	tokens := float64(cfg.Trainer.Steps*cfg.Trainer.BatchSize*cfg.Trainer.Accumulation*cfg.Data.SequenceLength) * r.Share / float64(len(r.Lengths))
	// A folder of their own: whoever shards text in the cache removes what others left
	// there unfinished.
	dir := filepath.Join(cfg.Data.CacheDir, "recall")
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("data.cache_dir: %w", err)
	}
	cache, err := vfs.Dir(dir)
	if err != nil {
		return nil, fmt.Errorf("data.cache_dir: %w", err)
	}
	defer cache.Close()
	var sources []data.Source
	for _, length := range r.Lengths {
		// One sequence more than is read: the last sample looks one token ahead.
		documents := int64(min(tokens, mostProblemTokens))/int64(length) + int64(2*cfg.Data.SequenceLength/length)
		name := fmt.Sprintf("v%d-%s-%d-%d", recall.Version, tok.Hash()[:8], length, documents)
		if _, err := cache.Stat(name + "/" + shard.ManifestName); err != nil {
			err := problems.Write(ctx, cache, name, recall.Options{Length: length, Documents: documents, Seed: recallSeed})
			if err != nil && !errors.Is(err, shard.ErrExists) { // another process was faster
				return nil, fmt.Errorf("recall problems of %d tokens: %w", length, err)
			}
		}
		sources = append(sources, data.Source{Path: filepath.Join(dir, name), Weight: weight})
	}
	return sources, nil
}
