package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"jambalaya/internal/clitest"
	"jambalaya/trainer/report"
)

func TestMain(m *testing.M) {
	clitest.Main(m, main, func() {
		if template.dir != "" {
			os.RemoveAll(template.dir)
		}
	})
}

// tiny trains for a fraction of a second, with every kind of layer.
const tiny = `model:
  vocab_size: 272
  hidden_size: 16
  intermediate_size: 16
  num_hidden_layers: 2
  num_attention_heads: 2
  num_key_value_heads: 1
  layer_pattern: aM
  num_experts: 2
  num_experts_per_tok: 1
  mamba_d_state: 4
data:
  sources: [{path: text, ext: .txt}]
  sequence_length: 32
  cache_dir: cache
trainer:
  steps: 6
  batch_size: 2
  eval_every: 3
  eval_tokens: 64
  sample_tokens: 8
checkpoint:
  every: 2
`

// process is a command that ended.
type process = clitest.Ended

// newProcess is the command, to run in dir, and what it will have written.
func newProcess(dir string, args ...string) (*exec.Cmd, *bytes.Buffer, *bytes.Buffer) {
	cmd := clitest.Command(dir, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	return cmd, &stdout, &stderr
}

// ofTiny are the arguments of the run that newWorkspace has trained.
func ofTiny(more ...string) []string {
	return append([]string{"--config", "./tiny.yaml", "--out", "run", "--device", "cpu", "--threads", "1"}, more...)
}

func train(t *testing.T, dir string, args ...string) process {
	t.Helper()
	return clitest.Run(t, dir, args...)
}

// template is a directory with the configuration, text and a finished run.
var template struct {
	once sync.Once
	dir  string
	err  error
}

func makeTemplate(t *testing.T) string {
	t.Helper()
	template.once.Do(func() {
		if template.dir, template.err = os.MkdirTemp("", "train-test-"); template.err != nil {
			return
		}
		files := map[string]string{"tiny.yaml": tiny}
		for i := range 40 {
			files[fmt.Sprintf("text/%02d.txt", i)] = strings.Repeat(fmt.Sprintf("Text %d has its own number, %d.\n", i, i*i), 20)
		}
		for name, text := range files {
			path := filepath.Join(template.dir, name)
			template.err = errors.Join(template.err, os.MkdirAll(filepath.Dir(path), 0o777), os.WriteFile(path, []byte(text), 0o666))
		}
		if p := train(t, template.dir, ofTiny()...); p.Code != 0 {
			template.err = errors.New(p.String())
		}
	})
	if template.err != nil {
		t.Fatal(template.err)
	}
	return template.dir
}

// newWorkspace returns a directory with a configuration, text, shards and a run that
// has come to its end.
func newWorkspace(t *testing.T) string {
	t.Helper()
	from, dir := makeTemplate(t), t.TempDir()
	copyTree(t, from, dir)
	return dir
}

// copyTree copies files with their times, by which shards know their text.
func copyTree(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, name), 0o777)
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		return errors.Join(os.WriteFile(target, text, 0o666), os.Chtimes(target, info.ModTime(), info.ModTime()))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// contents returns the files below a directory, by name.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(filepath.Join(dir, name))
		files[name] = string(text)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return files
}

// metrics returns the lines of a run, without the clock.
func metrics(t *testing.T, run string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(run, "metrics.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		fields, err := report.Deterministic([]byte(line))
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, string(fields))
	}
	return strings.Join(lines, "\n")
}
