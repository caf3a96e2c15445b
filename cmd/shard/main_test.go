package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/data/shard"
	"jambalaya/internal/cli"
)

// runShard runs the command with output to a file, and returns its exit code, output
// and error.
func runShard(ctx context.Context, t *testing.T, args ...string) (code int, stdout, message string) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := command(f)
	var errs strings.Builder
	cmd.SetErr(&errs)
	cmd.SetArgs(args)
	code = cli.Execute(ctx, cmd)
	return code, read(t, f.Name()), strings.TrimSuffix(errs.String(), "\n")
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
	code, stdout, message := runShard(t.Context(), t, args...)
	if code != 0 || message != "" || !strings.Contains(stdout, "train     1 documents") || !strings.Contains(stdout, "data.tokenizer=cl100k_base") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, message)
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
	if code, _, message := runShard(t.Context(), t, args...); code != cli.CodeConfig || !strings.Contains(message, "--force") {
		t.Errorf("a second time: exit code %d, %s", code, message)
	}
	if code, _, message := runShard(t.Context(), t, append(args, "--force", "--tokenizer", "bytes")...); code != 0 {
		t.Errorf("with --force: exit code %d, %s", code, message)
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
		{"unknown flag", []string{"--inptu", in}, cli.CodeConfig, "unknown flag: --inptu"},
		{"argument", []string{in}, cli.CodeConfig, "unexpected argument"},
		{"no input", []string{"--out", ""}, cli.CodeConfig, "--input is needed"},
		{"no output", []string{"--input", in}, cli.CodeConfig, "--out is needed"},
		{"compression", []string{"--input", in, "--out", "", "--compress", "gzip"}, cli.CodeConfig, "none or zstd"},
		{"tokenizer", []string{"--input", in, "--out", "", "--tokenizer", "bpe-1"}, cli.CodeConfig, "bpe-N"},
		{"extension", []string{"--input", in, "--out", ""}, cli.CodeConfig, "--ext .txt"},
		{"missing input", []string{"--input", in + "/x", "--out", ""}, cli.CodeConfig, "no such file"},
		{"bad row", []string{"--input", in + "/c.jsonl", "--out", ""}, cli.CodeConfig, "c.jsonl: line 1"},
		{"small text", []string{"--input", in, "--ext", ".txt", "--out", "", "--tokenizer", "bpe-4000"}, cli.CodeConfig, "more text"},
		{"foreign folder", []string{"--input", in, "--ext", ".txt", "--out", in, "--force"}, cli.CodeConfig, "no part of a folder of shards"},
		{"file in the way", []string{"--input", in, "--ext", ".txt", "--out", in + "/a.txt/out"}, cli.CodeFailure, "not a directory"},
		{"tokenizer file", []string{"--input", in, "--ext", ".txt", "--out", "", "--tokenizer", in + "/no.json"}, cli.CodeFailure, "no.json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			out := t.TempDir()
			for i, a := range c.args {
				if a == "" {
					c.args[i] = filepath.Join(out, "set")
				}
			}
			code, stdout, message := runShard(t.Context(), t, c.args...)
			if code != c.code || !strings.Contains(message, c.want) || strings.Contains(message, "\n") {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, stdout, message)
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
	code, _, message := runShard(ctx, t, "--input", input(t), "--ext", ".txt", "--out", filepath.Join(out, "set"))
	if code != cli.CodeInterrupted || !strings.Contains(message, "run it again") {
		t.Errorf("exit code %d: %s", code, message)
	}
	if left, err := os.ReadDir(out); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
