package main

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestOutput runs a job to its end and looks at what it says and leaves.
func TestOutput(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	p := train(t, dir, ofTiny("--out", "new", "--set", "trainer.sample_every=2", "--set", "trainer.samples=2")...)
	checkProcess(t, p, 0, nil, []string{
		"data: ", "tokens to learn from, tokenizer bytes, in cache",
		"model: ", "parameters, ", "active a token; cpu/",
		"memory: ", "of activations planned (", "without reuse)",
		"start: validation ", "nats a token, ", "bits a byte",
		"train  1/6 16%  loss ",
		"step 3: validation ",
		"step 6: validation ",
		"train  6/6 100%",
		"6 steps, 384 tokens. On ", "bytes of held-out text:",
		"this model ", "at the start, ratio ",
		"gzip -9 ", "xz -9e ",
		"A sample:",
		"In new: metrics.jsonl, loss.png, samples.txt, config.yaml and checkpoints/.",
		"Next:",
		`go run ./cmd/generate --run new --prompt "func main() {"`,
		"go run ./cmd/ckpt ls --run new",
	})
	files := contents(t, filepath.Join(dir, "new"))
	for _, name := range []string{"config.yaml", "metrics.jsonl", "loss.png", "checkpoints/step-00000006/manifest.json"} {
		if files[name] == "" {
			t.Errorf("no %s", name)
		}
	}
	if got := strings.Count(metrics(t, filepath.Join(dir, "new")), "\n") + 1; got != 7 {
		t.Errorf("%d lines of metrics, want those of steps 0 to 6", got)
	}
	last := files["samples.txt"]
	if n := strings.Count(last, "func main() {"); n != 2 {
		t.Errorf("%d samples: %q", n, last)
	}
	if files["samples/step-00000006.txt"] != last || files["samples/step-00000002.txt"] == "" || files["samples/step-00000004.txt"] == last {
		t.Errorf("samples during training: %q", files)
	}
}

// TestFamilies trains the presets of the other systems for two short steps.
func TestFamilies(t *testing.T) {
	t.Parallel()
	for _, preset := range []string{"nano", "llama2", "mixtral", "mamba"} {
		t.Run(preset, func(t *testing.T) {
			t.Parallel()
			dir := newWorkspace(t)
			p := train(t, dir, "--config", preset, "--threads", "1", "--device", "cpu", "--set", "data.sources=[{path: text, ext: .txt}]", "--set", "data.cache_dir=cache",
				"--set", "trainer.minutes=0", "--set", "trainer.steps=2", "--set", "trainer.batch_size=1", "--set", "data.sequence_length=32",
				"--set", "trainer.eval_tokens=64", "--set", "trainer.samples=1", "--set", "trainer.sample_tokens=4")
			checkProcess(t, p, 0, nil, []string{"step 2: validation", "2 steps, 64 tokens", "In runs/" + preset})
		})
	}
}
