package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"jambalaya/data"
	"jambalaya/data/shard"
	"jambalaya/data/source"
	"jambalaya/internal/cli"
	"jambalaya/internal/human"
	"jambalaya/internal/term"
	"jambalaya/internal/vfs"
)

// job is what the flags ask for.
type job struct {
	input       string
	out         string
	tokenizer   string
	compression string
	options     source.Options
	force       bool
}

func (j *job) check() error {
	switch {
	case j.input == "":
		return cli.Config(errors.New("--input is needed: a directory, a file or go-source"))
	case j.out == "":
		return cli.Config(errors.New("--out is needed: the folder to make"))
	case j.compression != shard.Uncompressed && j.compression != shard.Zstd:
		return cli.Config(fmt.Errorf("--compress %s: choose none or zstd", j.compression))
	}
	if err := data.CheckTokenizer(j.tokenizer); err != nil {
		return cli.Config(fmt.Errorf("--tokenizer: %w", err))
	}
	return nil
}

func (j *job) run(ctx context.Context, stdout *os.File) error {
	if err := j.check(); err != nil {
		return err
	}
	src, err := j.openInput()
	if err != nil {
		return err
	}
	parent, err := openParent(j.out)
	if err != nil {
		return err
	}
	defer parent.Close()
	name := filepath.Base(filepath.Clean(j.out))
	target, err := j.target(parent, name)
	if err != nil {
		return err
	}
	bars := &term.Stages{Out: stdout, Format: human.Bytes}
	defer bars.Close()
	show := func(p data.Progress) { bars.Set(p.Stage, p.Done, p.Total) }
	start := time.Now()
	tok, err := data.OpenTokenizer(ctx, j.tokenizer, []*source.Source{src}, show)
	if err != nil {
		return err
	}
	manifest, err := data.Shard(ctx, parent, target, src, data.ShardOptions{Tokenizer: tok, Compression: j.compression, Progress: show})
	if err != nil {
		return err
	}
	if err := j.publish(parent, target, name); err != nil {
		return fmt.Errorf("cannot replace %s: %w; the new shards are in %s", j.out, err, j.out+".new")
	}
	bars.Close()
	j.report(stdout, manifest, time.Since(start))
	return nil
}

// classify gives an error the exit code of its kind.
func classify(ctx context.Context, err error) error {
	switch {
	case err != nil && ctx.Err() != nil:
		return cli.Interrupted(errors.New("interrupted; nothing was written: run it again"))
	case data.IsConfig(err):
		return cli.Config(err)
	}
	return err
}

func (j *job) openInput() (*source.Source, error) {
	if j.input == source.GoSource {
		return source.OpenGo()
	}
	return source.Open(j.input, j.options)
}

// openParent opens the directory in which the output folder is made.
func openParent(out string) (*vfs.DirFS, error) {
	dir := filepath.Dir(filepath.Clean(out))
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("cannot make the folder for --out %s: %w", out, err)
	}
	return vfs.Dir(dir)
}

// target returns the name to write under: that of the output folder, or, where that
// is to be replaced, one beside it.
func (j *job) target(parent vfs.FS, name string) (string, error) {
	entries, err := parent.ReadDir(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return name, nil
	case err != nil:
		return "", cli.Config(fmt.Errorf("--out %s: %w", j.out, err))
	case len(entries) == 0:
		return name, parent.Remove(name)
	case !j.force:
		return "", fmt.Errorf("--out %s: %w: choose another, or replace it with --force", j.out, shard.ErrExists)
	}
	for _, e := range entries {
		if ext := filepath.Ext(e.Name()); e.IsDir() || ext != ".arrow" && ext != ".json" {
			return "", cli.Config(fmt.Errorf("--out %s: has %s in it, which is no part of a folder of shards: remove the folder yourself", j.out, e.Name()))
		}
	}
	return name + ".new", vfs.RemoveAll(parent, name+".new")
}

// publish puts what was written under another name in its place.
func (j *job) publish(parent vfs.FS, target, name string) error {
	if target == name {
		return nil
	}
	if err := vfs.RemoveAll(parent, name); err != nil {
		return err
	}
	if err := parent.Rename(target, name); err != nil {
		return err
	}
	return parent.SyncDir(".")
}

// report says what was made and what to do with it.
func (j *job) report(stdout *os.File, m *shard.Manifest, took time.Duration) {
	for _, s := range m.Splits {
		fmt.Fprintf(stdout, "%-8s  %s documents  %s tokens  %s of text  in %s\n",
			s.Name, human.Count(float64(s.Rows)), human.Count(float64(s.Tokens)), human.Bytes(s.Bytes), shards(len(s.Files)))
	}
	fmt.Fprintf(stdout, "tokenizer %s, %d ids; took %s\n", m.Tokenizer.ID, m.Tokenizer.VocabSize, human.Duration(took))
	fmt.Fprintf(stdout, "train on it with --set 'data.sources=[{path: %s}]' --set data.tokenizer=%s\n", j.out, j.tokenizerOf(m))
}

func shards(n int) string {
	if n == 1 {
		return "one shard"
	}
	return fmt.Sprintf("%d shards", n)
}

// tokenizerOf is how a configuration names the tokenizer.
func (j *job) tokenizerOf(m *shard.Manifest) string {
	if m.Tokenizer.File != nil {
		return filepath.Join(j.out, m.Tokenizer.File.Name)
	}
	return m.Tokenizer.ID
}
