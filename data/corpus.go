package data

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"jambalaya/data/shard"
	"jambalaya/data/source"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/filelock"
	"jambalaya/internal/vfs"
)

// Corpus is the text of a configuration: one data set a source, all of one
// tokenizer.
type Corpus struct {
	cfg       Config
	tokenizer tokenizer.Tokenizer
	sets      []*shard.Set
	dirs      []string
}

// Open makes the corpus of a configuration ready. Sources that are text are sharded
// into the cache folder when they are met first, and again when they, or the
// tokenizer, change; progress may be nil. Several processes may open one corpus: one
// shards, the others wait.
func Open(ctx context.Context, cfg Config, progress func(Progress)) (*Corpus, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if progress == nil {
		progress = func(Progress) {}
	}
	b := &builder{ctx: ctx, cfg: cfg, progress: progress}
	defer b.close()
	c := &Corpus{cfg: cfg}
	err := b.open(c)
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Tokenizer returns the tokenizer of all sources.
func (c *Corpus) Tokenizer() tokenizer.Tokenizer { return c.tokenizer }

// VocabSize is the number of ids: a model of fewer cannot read this corpus.
func (c *Corpus) VocabSize() int { return c.tokenizer.VocabSize() }

// Dirs returns the folder of shards of each source.
func (c *Corpus) Dirs() []string { return c.dirs }

// Tokens is the number of tokens to learn from, of all sources together.
func (c *Corpus) Tokens() int64 {
	n := int64(0)
	for _, set := range c.sets {
		n += set.Split(shard.Train).Tokens()
	}
	return n
}

// Index returns the order of samples that belongs to a seed.
func (c *Corpus) Index(seed uint64) (*Index, error) {
	sources := make([]IndexSource, len(c.sets))
	for i, set := range c.sets {
		sources[i] = IndexSource{
			Name: c.cfg.Sources[i].Path, Hash: set.Hash(), Split: set.Split(shard.Train), Weight: c.weight(i),
		}
	}
	return NewIndex(sources, seed, c.cfg.SequenceLength)
}

// weight is a source's weight with the default filled in.
func (c *Corpus) weight(i int) float64 { return cmp.Or(c.cfg.Sources[i].Weight, 1) }

// Evaluation returns the first maxTokens targets of the held-out text, each source
// with its part by weight, or all where there are fewer (and if maxTokens is 0).
func (c *Corpus) Evaluation(maxTokens int64) (*Evaluation, error) {
	if maxTokens <= 0 {
		maxTokens = math.MaxInt64
	}
	total := 0.0
	for i := range c.sets {
		total += c.weight(i)
	}
	var parts []evaluationPart
	for i, set := range c.sets {
		share := float64(maxTokens) * c.weight(i) / total
		part := evaluationPart{split: set.Split(shard.HeldOut)}
		part.targets = int64(min(share, float64(part.split.Tokens()-1)))
		if part.targets > 0 {
			parts = append(parts, part)
		}
	}
	if len(parts) == 0 {
		return nil, fmt.Errorf("%w: it is too small to choose some by itself; name files or directories with held_out of a source (cmd/shard: --held-out)", ErrNoHeldOut)
	}
	return newEvaluation(parts, c.tokenizer, c.cfg.SequenceLength), nil
}

// Close unmaps the shards: nothing made of the corpus may be used after it.
func (c *Corpus) Close() error {
	var err error
	for _, set := range c.sets {
		err = errors.Join(err, set.Close())
	}
	c.sets = nil
	return err
}

// builder opens the sources of a corpus and makes what is missing.
type builder struct {
	ctx      context.Context
	cfg      Config
	progress func(Progress)
	cache    *vfs.DirFS // open once something has to be made
	lock     *os.File   // of the cache
}

func (b *builder) close() {
	if b.cache != nil {
		b.lock.Close()
		b.cache.Close()
	}
}

func (b *builder) open(c *Corpus) error {
	inputs := make([]*source.Source, len(b.cfg.Sources)) // nil for folders of shards
	for i, s := range b.cfg.Sources {
		if isSet(s.Path) {
			continue
		}
		var err error
		if inputs[i], err = openInput(s); err != nil {
			return fmt.Errorf("data: sources[%d]: %w", i, err)
		}
	}
	var err error
	if c.tokenizer, err = b.openTokenizer(inputs); err != nil {
		return err
	}
	for i, s := range b.cfg.Sources {
		dir := s.Path
		if inputs[i] != nil {
			if dir, err = b.shard(inputs[i], c.tokenizer); err != nil {
				return fmt.Errorf("data: sources[%d] %s: %w", i, s.Path, err)
			}
		}
		set, err := shard.Open(dir)
		if err != nil {
			if inputs[i] != nil {
				err = fmt.Errorf("%w; remove %s and it is made again", err, dir)
			}
			return fmt.Errorf("data: sources[%d] %s: %w", i, s.Path, err)
		}
		c.sets, c.dirs = append(c.sets, set), append(c.dirs, dir)
		if set.Tokenizer().Hash() != c.tokenizer.Hash() {
			return &ConfigError{"tokenizer", fmt.Sprintf("%s, but the shards in %s were made with %s: set it to that, or shard the text again",
				c.tokenizer.ID(), dir, set.Tokenizer().ID())}
		}
	}
	return nil
}

// isSet reports whether a path is a folder of shards.
func isSet(path string) bool { return exists(filepath.Join(path, shard.ManifestName)) }

func openInput(s Source) (*source.Source, error) {
	if s.Path == source.GoSource {
		return source.OpenGo()
	}
	return source.Open(s.Path, source.Options{Ext: s.Ext, TextField: s.TextField, MaskField: s.MaskField, HeldOut: s.HeldOut})
}

// shard returns the folder of a source's shards, made now if there is none.
func (b *builder) shard(src *source.Source, tok tokenizer.Tokenizer) (dir string, err error) {
	key := shortHash(src.Key(), tok.Hash(), strconv.Itoa(shard.FormatVersion))
	name := fmt.Sprintf("%s-%s-%s", baseName(src.Name()), baseName(tok.ID()), key)
	dir = filepath.Join(b.cfg.CacheDir, name)
	if isSet(dir) {
		return dir, nil
	}
	if err := b.lockCache(); err != nil {
		return "", err
	}
	if isSet(dir) { // another process was faster
		return dir, nil
	}
	if err := vfs.RemoveAll(b.cache, name); err != nil {
		return "", fmt.Errorf("cannot replace the incomplete folder %s: %w", dir, err)
	}
	_, err = Shard(b.ctx, b.cache, name, src, ShardOptions{Tokenizer: tok, Progress: b.progress})
	if err != nil && !IsConfig(err) {
		err = fmt.Errorf("in %s: %w", b.cfg.CacheDir, err)
	}
	return dir, err
}

// lockCache opens the cache folder for writing, when no other process does.
func (b *builder) lockCache() error {
	if b.cache != nil {
		return nil
	}
	if err := os.MkdirAll(b.cfg.CacheDir, 0o777); err != nil {
		return fmt.Errorf("cannot make the cache folder, choose another with data.cache_dir: %w", err)
	}
	lock, err := filelock.Wait(b.ctx, filepath.Join(b.cfg.CacheDir, ".lock"))
	if err != nil {
		return fmt.Errorf("cannot write to the cache folder, choose another with data.cache_dir: %w", err)
	}
	cache, err := vfs.Dir(b.cfg.CacheDir)
	if err != nil {
		return errors.Join(err, lock.Close())
	}
	b.cache, b.lock = cache, lock
	return shard.RemoveTemp(cache, ".")
}

// openTokenizer returns the tokenizer of the configuration. One that is trained on
// the inputs is kept in the cache.
func (b *builder) openTokenizer(inputs []*source.Source) (tokenizer.Tokenizer, error) {
	name := b.cfg.Tokenizer
	if !strings.HasPrefix(name, bpePrefix) || strings.HasSuffix(name, ".json") {
		return OpenTokenizer(b.ctx, name, nil, nil)
	}
	parts := []string{name}
	for i, src := range inputs {
		if src == nil {
			return nil, &ConfigError{"tokenizer", fmt.Sprintf("%s cannot be trained on the shards in %s: name their tokenizer.json", name, b.cfg.Sources[i].Path)}
		}
		parts = append(parts, src.Key())
	}
	file := fmt.Sprintf("%s-%s.json", name, shortHash(parts...))
	path := filepath.Join(b.cfg.CacheDir, file)
	if exists(path) {
		return tokenizer.Load(path)
	}
	if err := b.lockCache(); err != nil {
		return nil, err
	}
	if exists(path) { // another process was faster
		return tokenizer.Load(path)
	}
	tok, err := OpenTokenizer(b.ctx, name, inputs, b.progress)
	if err != nil {
		return nil, err
	}
	temp := shard.TempPrefix + file
	err = vfs.WriteFile(b.cache, temp, tok.(*tokenizer.BPE).File())
	if err == nil {
		err = b.cache.Rename(temp, file)
	}
	if err == nil {
		err = b.cache.SyncDir(".")
	}
	if err != nil {
		return nil, fmt.Errorf("data: cannot save the tokenizer in %s: %w", b.cfg.CacheDir, err)
	}
	return tok, nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// shortHash names what a folder was made of.
func shortHash(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\n")))
	return hex.EncodeToString(sum[:6])
}

// baseName makes a readable part of a folder's name.
func baseName(path string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' {
			return r
		}
		if r >= 'A' && r <= 'Z' {
			return r - 'A' + 'a'
		}
		return '-'
	}, strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))
}
