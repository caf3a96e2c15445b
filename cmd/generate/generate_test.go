package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"jambalaya/internal/cli"
	"jambalaya/internal/clitest"
	"jambalaya/internal/config"
	"jambalaya/trainer"
)

func TestMain(m *testing.M) {
	clitest.Main(m, main, func() { os.RemoveAll(trained.dir) })
}

// trained is a directory with a run, for all tests.
var trained struct {
	once sync.Once
	dir  string
	err  error
}

// job learns a few lines of text well enough to write letters.
const job = `model: {vocab_size: 272, hidden_size: 32, intermediate_size: 32, num_hidden_layers: 2, num_attention_heads: 2,
  num_key_value_heads: 1, layer_pattern: aM, num_experts: 2, num_experts_per_tok: 1, mamba_d_state: 4}
data: {sources: [{path: %[1]s/text, ext: .txt}], sequence_length: 64, cache_dir: %[1]s/cache}
trainer: {steps: 60, batch_size: 4, eval_every: 60, eval_tokens: 64, samples: 0, device: cpu}
optim: {lr: 1e-2, warmup_steps: 5}
checkpoint: {every: 30}
`

func trainedRun(t *testing.T) string {
	t.Helper()
	trained.once.Do(func() { trained.err = trainOnce() })
	if trained.err != nil {
		t.Fatal(trained.err)
	}
	return filepath.Join(trained.dir, "run")
}

func trainOnce() (err error) {
	if trained.dir, err = os.MkdirTemp("", "generate-test-"); err != nil {
		return err
	}
	if err := os.Mkdir(filepath.Join(trained.dir, "text"), 0o777); err != nil {
		return err
	}
	for i := range 40 {
		text := strings.Repeat(fmt.Sprintf("func f%d() int { return %d }\n", i, i), 20)
		if err := os.WriteFile(filepath.Join(trained.dir, "text", fmt.Sprintf("%02d.txt", i)), []byte(text), 0o666); err != nil {
			return err
		}
	}
	cfg, _, err := trainer.LoadConfig(config.File{Name: "job", Text: fmt.Appendf(nil, job, trained.dir)}, nil)
	if err != nil {
		return err
	}
	silent, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer silent.Close()
	return trainer.Run(context.Background(), cfg, trainer.Options{Name: "job", Out: filepath.Join(trained.dir, "run"), Stdout: silent})
}

func generate(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	p := clitest.Run(t, ".", append([]string{"--device", "cpu"}, args...)...)
	return p.Code, p.Stdout, p.Stderr
}

// text generates and wants success. It returns what follows the prompt.
func text(t *testing.T, prompt string, args ...string) string {
	t.Helper()
	code, out, errs := generate(t, append([]string{"--run", trainedRun(t), "--prompt", prompt}, args...)...)
	if code != 0 || errs != "" {
		t.Fatalf("exit code %d: %s", code, errs)
	}
	rest, found := strings.CutPrefix(out, prompt)
	if !found || !strings.HasSuffix(rest, "\n") {
		t.Fatalf("output %q of prompt %q", out, prompt)
	}
	return strings.TrimSuffix(rest, "\n")
}

func TestSeeds(t *testing.T) {
	t.Parallel()
	draw := func(seed string) string {
		return text(t, "func ", "--seed", seed, "--temperature", "1.5", "--max-new-tokens", "40")
	}
	if first := draw("7"); first != draw("7") {
		t.Error("the same seed gives another text")
	} else if first == draw("8") {
		t.Error("another seed gives the same text")
	}
}

func TestGreedy(t *testing.T) {
	t.Parallel()
	greedy := text(t, "func ", "--temperature", "0", "--max-new-tokens", "60", "--seed", "3")
	if len(greedy) != 60 {
		t.Fatalf("%d bytes: %q", len(greedy), greedy)
	}
	if other := text(t, "func ", "--top-k", "1", "--max-new-tokens", "60"); other != greedy {
		t.Errorf("the most likely token is %q with --temperature 0, %q with --top-k 1", greedy, other)
	}
	// What was generated token by token is now read as a prompt, in chunks.
	if rest := text(t, "func "+greedy[:40], "--temperature", "0", "--max-new-tokens", "20"); rest != greedy[40:] {
		t.Errorf("goes on with %q, not %q", rest, greedy[40:])
	}
	if other := text(t, "func ", "--temperature", "0", "--max-new-tokens", "60", "--threads", "3"); other != greedy {
		t.Errorf("3 threads give another text")
	}
	if none := text(t, "", "--temperature", "0", "--max-new-tokens", "0"); none != "" {
		t.Errorf("no tokens are %q", none)
	}
}

func TestBadInput(t *testing.T) {
	t.Parallel()
	run := trainedRun(t)
	for _, c := range []struct {
		name string
		args []string
		code int
		want string
	}{
		{"flag", []string{"--runs", run}, cli.CodeConfig, "unknown flag: --runs; try generate --help"},
		{"argument", []string{"func"}, cli.CodeConfig, `unexpected argument "func"; try generate --help`},
		{"no run", []string{"--run", ""}, cli.CodeConfig, "which run? Name its directory"},
		{"missing run", []string{"--run", run + "/x"}, cli.CodeConfig, "is not the directory of a run: it has no config.yaml; train first"},
		{"threads", []string{"--run", run, "--threads", "-1"}, cli.CodeConfig, "--threads -1: want 0 (one a core) or more"},
		{"temperature", []string{"--run", run, "--temperature", "-1"}, cli.CodeConfig, "temperature -1: want 0"},
		{"not a number", []string{"--run", run, "--temperature", "NaN"}, cli.CodeConfig, "temperature NaN: want 0"},
		{"top-k", []string{"--run", run, "--top-k", "-1"}, cli.CodeConfig, "top-k -1: want 0"},
		{"top-p", []string{"--run", run, "--top-p", "1.5"}, cli.CodeConfig, "top-p 1.5: want a probability"},
		{"seed", []string{"--run", run, "--seed", "-1"}, cli.CodeConfig, `invalid argument "-1" for "--seed"`},
		{"negative number of tokens", []string{"--run", run, "--max-new-tokens", "-1"}, cli.CodeConfig, "--max-new-tokens -1: want a number from 0"},
		{"endless", []string{"--run", run, "--max-new-tokens", "9223372036854775807"}, cli.CodeConfig, "want a number from 0"},
		{"beyond the memory", []string{"--run", run, "--max-new-tokens", "1073741824"}, cli.CodeFailure, "out of memory"},
		{"device", []string{"--run", run, "--device", "tpu"}, cli.CodeConfig, `device "tpu": want auto, cpu or cuda`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			code, out, errs := generate(t, c.args...)
			if code != c.code || !strings.HasPrefix(errs, "generate: ") || !strings.Contains(errs, c.want) || strings.Count(errs, "\n") != 1 {
				t.Errorf("exit code %d, want %d\n%s%s", code, c.code, out, errs)
			}
		})
	}
}

// TestDamagedCheckpoints damages one checkpoint after the other.
func TestDamagedCheckpoints(t *testing.T) {
	t.Parallel()
	run := t.TempDir()
	if err := os.CopyFS(run, os.DirFS(trainedRun(t))); err != nil {
		t.Fatal(err)
	}
	damage := func(step string) {
		name := filepath.Join(run, "checkpoints", step, "model-r0000-of-0001.safetensors")
		weights, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		weights[len(weights)-1] ^= 1
		if err := os.WriteFile(name, weights, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	damage("step-00000060")
	code, out, errs := generate(t, "--run", run, "--prompt", "func ")
	if code != 0 || !strings.HasPrefix(out, "func ") || !strings.Contains(errs, "warning: checkpoint step-00000060: corrupt") ||
		!strings.Contains(errs, "warning: using checkpoint step-00000030") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
	damage("step-00000030")
	code, out, errs = generate(t, "--run", run, "--prompt", "func ")
	if code != cli.CodeFailure || out != "" || !strings.Contains(errs, "no checkpoint in checkpoints; train until") {
		t.Errorf("exit code %d\n%s%s", code, out, errs)
	}
}
