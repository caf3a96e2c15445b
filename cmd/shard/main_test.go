package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/data/shard"
)

// runShard runs the command in its own files and returns its exit code and output.
func runShard(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := t.TempDir()
	var files [2]*os.File
	for i, name := range []string{"stdout", "stderr"} {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	code = run(context.Background(), args, files[0], files[1])
	return code, read(t, filepath.Join(dir, "stdout")), read(t, filepath.Join(dir, "stderr"))
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// input makes a directory with some text.
func input(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"a.txt": "some text\n", "b.txt": "more text\n", "c.jsonl": "{\"text\": 1}\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestShard(t *testing.T) {
	t.Parallel()
	in, out := input(t), filepath.Join(t.TempDir(), "new", "out")
	args := []string{"--input", in, "--ext", ".txt", "--out", out, "--held-out", "b.txt", "--compress", "zstd", "--tokenizer", "cl100k_base"}
	code, stdout, stderr := runShard(t, args...)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "train     1 documents") || !strings.Contains(stdout, "data.tokenizer=cl100k_base") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	set, err := shard.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	if set.Split(shard.HeldOut).Rows() != 1 || set.Split(shard.Train).Bytes() != 10 {
		t.Errorf("got %+v", set.Manifest())
	}
	if err := set.Close(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := runShard(t, args...); code != exitConfig || !strings.Contains(stderr, "--force") {
		t.Errorf("a second time: exit code %d, %s", code, stderr)
	}
	if code, _, stderr := runShard(t, append(args, "--force", "--tokenizer", "bytes")...); code != 0 {
		t.Errorf("with --force: exit code %d, %s", code, stderr)
	}
	if set, err = shard.Open(out); err != nil || set.Tokenizer().ID() != "bytes" {
		t.Errorf("after --force: %v", err)
	}
	defer set.Close()
	if entries, err := os.ReadDir(filepath.Dir(out)); err != nil || len(entries) != 1 {
		t.Errorf("left: %v, %v", entries, err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	in := input(t)
	for _, c := range []struct {
		name string
		args []string // "" is the output folder
		code int
		want string
	}{
		{"unknown flag", []string{"--inptu", in}, exitConfig, "unknown flag: --inptu"},
		{"argument", []string{in}, exitConfig, "unexpected argument"},
		{"no input", []string{"--out", ""}, exitConfig, "--input is needed"},
		{"no output", []string{"--input", in}, exitConfig, "--out is needed"},
		{"compression", []string{"--input", in, "--out", "", "--compress", "gzip"}, exitConfig, "none or zstd"},
		{"tokenizer", []string{"--input", in, "--out", "", "--tokenizer", "bpe-1"}, exitConfig, "bpe-N"},
		{"extension", []string{"--input", in, "--out", ""}, exitConfig, "--ext .txt"},
		{"missing input", []string{"--input", in + "/x", "--out", ""}, exitConfig, "no such file"},
		{"bad row", []string{"--input", in + "/c.jsonl", "--out", ""}, exitConfig, "c.jsonl: line 1"},
		{"small text", []string{"--input", in, "--ext", ".txt", "--out", "", "--tokenizer", "bpe-4000"}, exitConfig, "more text"},
		{"foreign folder", []string{"--input", in, "--ext", ".txt", "--out", in, "--force"}, exitConfig, "no part of a folder of shards"},
		{"file in the way", []string{"--input", in, "--ext", ".txt", "--out", in + "/a.txt/out"}, exitFailure, "not a directory"},
		{"tokenizer file", []string{"--input", in, "--ext", ".txt", "--out", "", "--tokenizer", in + "/no.json"}, exitFailure, "no.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			for i, a := range c.args {
				if a == "" {
					c.args[i] = filepath.Join(out, "set")
				}
			}
			code, stdout, stderr := runShard(t, c.args...)
			if code != c.code || !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, stdout, stderr)
			}
			if entries, err := os.ReadDir(out); err != nil || len(entries) != 0 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}

func TestInterrupted(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	out := t.TempDir()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	if code := run(ctx, []string{"--input", input(t), "--ext", ".txt", "--out", filepath.Join(out, "set")}, null, null); code != exitInterrupted {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(out, "set")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("something was written: %v", err)
	}
}
