package main

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jambalaya/internal/cli"
)

// badInputs are what a user can get wrong.
var badInputs = []struct {
	name   string
	damage func(t *testing.T, dir string)
	args   []string // instead of those of the run, if they begin with --config; else more
	code   int
	stderr []string // in order, a line each: what it has to say
	stdout []string
}{
	// The command line and the configuration.
	{name: "unknown flag", args: []string{"--nprocs", "2"}, code: cli.CodeConfig,
		stderr: []string{"unknown flag: --nprocs; try train --help"}},
	// Several workers.
	{name: "no workers", args: []string{"--nproc", "0"}, code: cli.CodeConfig, stderr: []string{"--nproc: 0 is not a number of workers"}},
	{name: "workers that do not divide the batch", args: []string{"--nproc", "3"}, code: cli.CodeConfig,
		stderr: []string{"parallel.data: 3 x expert 1 is a mesh of 3 ranks, which does not divide the global batch of 2 sequences"}},
	{name: "experts that do not divide", args: []string{"--nproc", "3", "--set", "parallel.expert=3", "--set", "trainer.batch_size=3"}, code: cli.CodeConfig,
		stderr: []string{"parallel.expert: 3 does not divide the 2 experts of a layer"}},
	{name: "a mesh of another size", args: []string{"--nproc", "2", "--set", "parallel.data=4", "--listen", "127.0.0.1:0", "--metrics", "off"}, code: cli.CodeConfig,
		stderr: []string{"parallel.data: 4 x expert 1 is a mesh of 4 ranks, which does not divide the global batch of 2 sequences"}},
	{name: "no address to listen on", args: []string{"--nproc", "2", "--listen", "nowhere", "--out", "new"}, code: cli.CodeConfig, stderr: []string{`--listen: "nowhere" is not HOST:PORT`}},
	{name: "no address of metrics", args: []string{"--nproc", "2", "--metrics", "9090", "--out", "new"}, code: cli.CodeConfig, stderr: []string{"--metrics 9090: address 9090: missing port in address"}},
	{name: "metrics that nobody serves", args: []string{"--metrics", "127.0.0.1:0", "--out", "new"}, code: cli.CodeConfig, stderr: []string{"--metrics 127.0.0.1:0: who starts workers serves them"}},
	{name: "no address to join", args: []string{"--join", "10.0.0.1"}, code: cli.CodeConfig, stderr: []string{`--join: "10.0.0.1" is not HOST:PORT`}},
	{name: "argument", args: []string{"nano"}, code: cli.CodeConfig,
		stderr: []string{`unexpected argument "nano"; try train --help`}},
	{name: "flag without value", args: []string{"--set"}, code: cli.CodeConfig,
		stderr: []string{"flag needs an argument: --set; try train --help"}},
	{name: "unknown preset", args: []string{"--config", "nanno"}, code: cli.CodeConfig,
		stderr: []string{`unknown preset "nanno": did you mean nano? there are bench-1b`}},
	{name: "missing file", args: []string{"--config", "./tinny.yaml"}, code: cli.CodeConfig,
		stderr: []string{"configuration: open ./tinny.yaml: no such file"}},
	{name: "typo in the file", damage: edit("tiny.yaml", "hidden_size", "hiden_size"), code: cli.CodeConfig,
		stderr: []string{"./tiny.yaml:3:3: model.hiden_size: unknown key; did you mean model.hidden_size?"}},
	{name: "typos in file and flag", damage: edit("tiny.yaml", "hidden_size", "hiden_size"), args: []string{"--set", "trainer.stpes=5"},
		code: cli.CodeConfig, stderr: []string{"did you mean model.hidden_size?", "--set trainer.stpes=5: trainer.stpes: unknown key; did you mean trainer.steps?"}},
	{name: "no YAML", damage: edit("tiny.yaml", "model:\n", "model\n"), code: cli.CodeConfig,
		stderr: []string{"./tiny.yaml:2: is not YAML"}},
	{name: "value of another type", args: []string{"--set", "trainer.steps=many"}, code: cli.CodeConfig,
		stderr: []string{`--set trainer.steps=many: trainer.steps: "many" is not a whole number`}},
	{name: "impossible value", args: []string{"--set", "model.num_attention_heads=3"}, code: cli.CodeConfig,
		stderr: []string{"--set model.num_attention_heads=3: model."}},
	{name: "unknown device", args: []string{"--device", "tpu"}, code: cli.CodeConfig,
		stderr: []string{`train: --device tpu: trainer.device: "tpu" is not one of auto, cpu, cuda`}},
	{name: "threads below none", args: []string{"--threads", "-1"}, code: cli.CodeConfig,
		stderr: []string{"train: --threads -1: trainer.threads: -1 is not between 0 and"}},
	{name: "model beyond the memory", args: []string{"--config", "jamba-v0.1", "--out", "large", "--device", "cpu", "--set", "data.sources=[{path: text, ext: .txt}]",
		"--set", "data.sequence_length=64"}, code: cli.CodeFailure, stderr: []string{"weights of 51570323328 parameters", "this machine has", "choose a smaller model"}},
	// The corpus.
	{name: "missing source", args: []string{"--set", "data.sources=[{path: texts, ext: .txt}]", "--out", "new"}, code: cli.CodeConfig,
		stderr: []string{"data: sources[0]: cannot read the input: stat texts: no such file"}},
	{name: "no file of the extension", args: []string{"--set", "data.sources=[{path: text, ext: .c}]", "--out", "new"}, code: cli.CodeConfig,
		stderr: []string{"no file below text ends in .c"}},
	{name: "empty corpus", damage: write("none/a.txt", ""), args: []string{"--set", "data.sources=[{path: none, ext: .txt}]", "--out", "new"},
		code: cli.CodeConfig, stderr: []string{"none", "the corpus is empty"}},
	{name: "sequence longer than the corpus", args: []string{"--set", "data.sequence_length=1000000", "--set", "trainer.eval_tokens=1000000", "--out", "new"},
		code: cli.CodeConfig, stderr: []string{"the sequence is longer than the corpus: sequence_length 1000000 needs 1000001 tokens, text has"}},
	{name: "no held-out text", damage: write("few/a.txt", strings.Repeat("Some text.\n", 90)), args: []string{"--set", "data.sources=[{path: few, ext: .txt}]", "--out", "new"},
		code: cli.CodeConfig, stderr: []string{"the corpus has no held-out text", "held_out"}},
	{name: "shards of another tokenizer", damage: keepShards, args: []string{"--set", "data.sources=[{path: shards}]", "--set", "data.tokenizer=r50k_base", "--out", "new"},
		code: cli.CodeConfig, stderr: []string{"train: data.tokenizer: r50k_base, but the shards in shards were made with bytes: set it to that"}},
	{name: "vocabulary too small", args: []string{"--set", "model.vocab_size=200", "--out", "new"}, code: cli.CodeConfig,
		stderr: []string{"model.vocab_size: 200 is smaller than the vocabulary of tokenizer bytes, 257"}},
	{name: "token outside the vocabulary", damage: forgeToken, code: cli.CodeFailure,
		stderr: []string{"train-00000.arrow: token outside the vocabulary", "remove cache/"}},
	{name: "flipped bit in a shard", damage: flip("cache/*/train-00000.arrow"), code: cli.CodeFailure,
		stderr: []string{"train-00000.arrow: damaged shard", "remove cache/"}},
	{name: "cut shard", damage: cut("cache/*/held-out-00000.arrow"), code: cli.CodeFailure,
		stderr: []string{"held-out-00000.arrow: damaged shard: it has", "remove cache/"}},
	{name: "missing shard", damage: remove("cache/*/train-00000.arrow"), code: cli.CodeFailure,
		stderr: []string{"train-00000.arrow: no such file", "remove cache/"}},
	{name: "flipped bit in a manifest", damage: flip("cache/*/manifest.json"), code: cli.CodeFailure,
		stderr: []string{"manifest.json: not a manifest we can use: the file is damaged", "remove cache/"}},
	{name: "cut manifest", damage: cut("cache/*/manifest.json"), code: cli.CodeFailure,
		stderr: []string{"manifest.json: not a manifest we can use: the file is damaged", "remove cache/"}},
	{name: "other text", damage: write("text/00.txt", "Something else.\n"), code: cli.CodeFailure,
		stderr: []string{"checkpoint step-00000006 was trained on other data", "restore the data, or start another run with --out or --fresh"}},
	// The run.
	{name: "another configuration", args: []string{"--set", "model.hidden_size=32", "--set", "optim.lr=0.1"}, code: cli.CodeConfig,
		stderr: []string{"model.hidden_size: the run was started with 16, not 32; go on with that, or", "optim.lr: the run was started with"}},
	{name: "checkpoint of another configuration", damage: otherCheckpoints, code: cli.CodeConfig,
		stderr: []string{"checkpoint step-00000006 is not of the configuration in run/config.yaml: restore"}},
	{name: "cut config.yaml", damage: cut("run/config.yaml"), code: cli.CodeConfig,
		stderr: []string{"run/config.yaml:", "restore the file as the run wrote it, or train anew with --fresh"}},
	{name: "empty config.yaml", damage: write("run/config.yaml", ""), code: cli.CodeConfig,
		stderr: []string{"run/config.yaml: is empty; restore the file"}},
	{name: "damaged metrics", damage: edit("run/metrics.jsonl", `"step":4`, `"stop":4`), code: cli.CodeFailure,
		stderr: []string{"damaged metrics file: run/metrics.jsonl:5 is not the line of a later step; move the file away"}},
	{name: "metrics cut short", damage: cut("run/metrics.jsonl"),
		stdout: []string{"resumed from step 6 of 6", "warning: run/metrics.jsonl ends with step", "the lines up to step 6 are lost"}},
	{name: "metrics lost", damage: remove("run/metrics.jsonl"),
		stdout: []string{"the lines up to step 6 are lost", "6 steps, 384 tokens"}},
	{name: "flipped bit in a checkpoint", damage: flip("run/checkpoints/step-00000006/model-r0000-of-0001.safetensors"),
		stdout: []string{"warning: checkpoint step-00000006: corrupt: the checksum of model-r0000-of-0001.safetensors", "moved to quarantine/step-00000006", "resumed from step 4 of 6"}},
	{name: "cut checkpoint", damage: cut("run/checkpoints/step-00000006/expert-L01-E001.safetensors"),
		stdout: []string{"warning: checkpoint step-00000006: corrupt: expert-L01-E001.safetensors has", "resumed from step 4 of 6"}},
	{name: "file of a checkpoint missing", damage: remove("run/checkpoints/step-00000006/state.json"),
		stdout: []string{"warning: checkpoint step-00000006: corrupt: state.json is missing", "resumed from step 4 of 6"}},
	{name: "flipped bit in a checkpoint's manifest", damage: flip("run/checkpoints/step-00000006/manifest.json"),
		stdout: []string{"warning: checkpoint step-00000006: corrupt: ", "resumed from step 4 of 6"}},
	{name: "two checkpoints damaged", damage: flip("run/checkpoints/step-0000000[46]/index.json"),
		stdout: []string{"warning: checkpoint step-00000006", "warning: checkpoint step-00000004", "resumed from step 2 of 6"}},
	{name: "all checkpoints damaged", damage: flip("run/checkpoints/*/optim-r0000-of-0001.safetensors"),
		stdout: []string{"warning: checkpoint step-00000002", "warning: no checkpoint is whole: training starts anew"}},
}

// TestBadInput breaks one thing in a workspace with a finished run of 6 steps and
// checkpoints of steps 2, 4 and 6, and runs the command again.
func TestBadInput(t *testing.T) {
	t.Parallel()
	for _, c := range badInputs {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := newWorkspace(t)
			run := filepath.Join(dir, "run")
			want := metrics(t, run)
			if c.damage != nil {
				c.damage(t, dir)
			}
			before := contents(t, run)
			args := c.args
			if len(args) == 0 || args[0] != "--config" {
				args = ofTiny(args...)
			}
			p := train(t, dir, args...)
			checkProcess(t, p, c.code, c.stderr, c.stdout)
			switch after := contents(t, run); {
			case c.code != 0 && !maps.Equal(before, after):
				t.Errorf("the run was changed: %q, then %q", names(before), names(after))
			case c.code == 0 && !strings.Contains(p.Stdout, "are lost") && metrics(t, run) != want:
				t.Error("the metrics are not those of the run before the damage")
			}
		})
	}
}

// checkProcess holds an ended process to its exit code and to what it has to say:
// one line on stderr for each entry that begins one, and nothing else.
func checkProcess(t *testing.T, p process, code int, stderr, stdout []string) {
	t.Helper()
	if p.Code != code {
		t.Errorf("exit code %d, want %d", p.Code, code)
	}
	if (p.Stderr != "") != (code != 0) || code != 0 && !strings.HasPrefix(p.Stderr, "train: ") {
		t.Errorf("stderr %q", p.Stderr)
	}
	if lines := strings.Count(p.Stderr, "\n"); code != 0 && (lines == 0 || lines > len(stderr)) {
		t.Errorf("%d lines on stderr", lines)
	}
	for _, c := range []struct {
		text string
		want []string
	}{{p.Stderr, stderr}, {p.Stdout, stdout}} {
		rest := c.text
		for _, want := range c.want {
			_, after, found := strings.Cut(rest, want)
			if !found {
				t.Errorf("no %q (after those before it)", want)
				continue
			}
			rest = after
		}
	}
	for _, word := range []string{"panic", "goroutine ", "runtime error"} {
		if strings.Contains(p.Stdout+p.Stderr, word) {
			t.Errorf("%q in the output", word)
		}
	}
	if t.Failed() {
		t.Log(p)
	}
}

func names(files map[string]string) []string { return slices.Sorted(maps.Keys(files)) }

// change returns what rewrites the files that match a pattern.
func change(pattern string, rewrite func(text []byte) []byte) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(paths) == 0 {
			t.Fatalf("nothing matches %s: %v", pattern, err)
		}
		for _, path := range paths {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, rewrite(text), 0o666); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func flip(pattern string) func(*testing.T, string) {
	return change(pattern, func(text []byte) []byte {
		text[len(text)/2] ^= 1
		return text
	})
}

func cut(pattern string) func(*testing.T, string) {
	return change(pattern, func(text []byte) []byte { return text[:len(text)/3] })
}

func edit(name, from, to string) func(*testing.T, string) {
	return change(name, func(text []byte) []byte { return []byte(strings.Replace(string(text), from, to, 1)) })
}

func remove(pattern string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil || len(paths) != 1 {
			t.Fatalf("%s matches %q: %v", pattern, paths, err)
		}
		if err := os.Remove(paths[0]); err != nil {
			t.Fatal(err)
		}
	}
}

func write(name, text string) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// keepShards copies what the cache has to a folder that a source can name.
func keepShards(t *testing.T, dir string) {
	found, err := filepath.Glob(filepath.Join(dir, "cache", "*", "manifest.json"))
	if err != nil || len(found) != 1 {
		t.Fatal(found, err)
	}
	copyTree(t, filepath.Dir(found[0]), filepath.Join(dir, "shards"))
}

// forgeToken puts a token outside the vocabulary into a shard and gives shard and
// manifest the checksums that belong to it: only looking at the tokens finds it.
func forgeToken(t *testing.T, dir string) {
	t.Helper()
	var old, forged string
	sum := func(text []byte) string {
		s := sha256.Sum256(text)
		return hex.EncodeToString(s[:])
	}
	change("cache/*/train-00000.arrow", func(text []byte) []byte {
		old = sum(text)
		at := strings.Index(string(text), "T\x00e\x00x\x00t\x00")
		if at < 0 {
			t.Fatal("the shard has no text")
		}
		binary.LittleEndian.PutUint16(text[at:], 257)
		forged = sum(text)
		return text
	})(t, dir)
	change("cache/*/manifest.json", func(text []byte) []byte {
		const middle, tail = ",\n\"content\": ", "\n}\n"
		_, content, _ := strings.Cut(string(text), middle)
		content = strings.Replace(strings.TrimSuffix(content, tail), old, forged, 1)
		return []byte("{\n\"sha256\": \"" + sum([]byte(content)) + "\"" + middle + content + tail)
	})(t, dir)
}

// otherCheckpoints replaces the checkpoints by those of a run with other values.
func otherCheckpoints(t *testing.T, dir string) {
	t.Helper()
	if p := train(t, dir, ofTiny("--out", "other", "--set", "optim.lr=0.01")...); p.Code != 0 {
		t.Fatal(p)
	}
	if err := os.RemoveAll(filepath.Join(dir, "run/checkpoints")); err != nil {
		t.Fatal(err)
	}
	copyTree(t, filepath.Join(dir, "other/checkpoints"), filepath.Join(dir, "run/checkpoints"))
}
