package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/internal/clitest"
	"jambalaya/trainer/report"
)

func TestMain(m *testing.M) { clitest.Main(m, main) }

// tinyGrid has four cells that take a fraction of a second each: the grid of the tests of
// package experiments, over text that workspace makes.
func tinyGrid(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../experiments/testdata/tiny.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(
		"\nset:\n", "\ntitle: Tiny\nset:\n  - \"data.sources=[{path: text, ext: .txt}]\"\n  - data.cache_dir=cache\n  - checkpoint.keep=1\n",
		"trainer.steps=6", "trainer.steps=12", "trainer.eval_every=3", "trainer.eval_every=4", "checkpoint.every=2", "checkpoint.every=3",
	).Replace(string(text))
}

// workspace is a directory with the grid and text to learn from.
func workspace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tiny.yaml"), tinyGrid(t))
	for i := range 40 {
		write(t, filepath.Join(dir, "text", fmt.Sprintf("%02d.txt", i)), strings.Repeat(fmt.Sprintf("Text %d has its own number, %d.\n", i, i*i), 20))
	}
	return dir
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(name), 0o777), os.WriteFile(name, []byte(text), 0o666)); err != nil {
		t.Fatal(err)
	}
}

// process is the command in a process of its own, to run in dir, and all that it will
// have written.
func process(dir string, args ...string) (*exec.Cmd, *bytes.Buffer) {
	cmd := clitest.Command(dir, args...)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	return cmd, &output
}

func ablate(t *testing.T, dir string, args ...string) (code int, output string) {
	t.Helper()
	p := clitest.Run(t, dir, args...)
	return p.Code, p.Stdout + p.Stderr
}

var cells = []string{"hybrid-seed1", "mamba-seed1", "hybrid-seed2", "mamba-seed2"}

// results reads what the cells measured, without the clock.
func results(t *testing.T, out string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, c := range cells {
		text, err := os.ReadFile(filepath.Join(out, "cells", c, "result.json"))
		var fields map[string]any
		if err = errors.Join(err, json.Unmarshal(text, &fields)); err != nil {
			t.Fatal(err)
		}
		delete(fields, "tokens_per_s")
		text, _ = json.Marshal(fields)
		all[c] = string(text)
	}
	return all
}

// TestKilled kills the command at several points, without a warning. In the end
// every cell has measured what it does undisturbed, none was run again that was done,
// and no step was taken twice in its record.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	args := func(out string) []string {
		return []string{"--config", "./tiny.yaml", "--out", out, "--device", "cpu", "--threads", "1", "--jobs", "2"}
	}
	if code, output := ablate(t, dir, args("whole")...); code != cli.CodeOK {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	for _, pattern := range []string{"*/checkpoints/*", "*/result.json", "*2/checkpoints/*"} {
		cmd, output := process(dir, args("killed")...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if found, _ := filepath.Glob(filepath.Join(dir, "killed", "cells", pattern)); len(found) > 0 {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no %s\n%s", pattern, output)
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if cmd.ProcessState.ExitCode() == cli.CodeOK {
			t.Logf("at %s the grid was done before the kill", pattern)
		}
	}
	done := map[string]time.Time{}
	for _, c := range cells {
		if info, err := os.Stat(filepath.Join(dir, "killed", "cells", c, "result.json")); err == nil {
			done[c] = info.ModTime()
		}
	}
	if len(done) == 0 {
		t.Error("no cell was done when the last process was killed")
	}
	if code, output := ablate(t, dir, args("killed")...); code != cli.CodeOK {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	want, got := results(t, filepath.Join(dir, "whole")), results(t, filepath.Join(dir, "killed"))
	for _, c := range cells {
		if got[c] != want[c] {
			t.Errorf("%s measured\n%s, undisturbed\n%s", c, got[c], want[c])
		}
		if info, err := os.Stat(filepath.Join(dir, "killed", "cells", c, "result.json")); err != nil || !done[c].IsZero() && !info.ModTime().Equal(done[c]) {
			t.Errorf("%s was done and ran again: %v", c, err)
		}
		checkSteps(t, filepath.Join(dir, "killed", "cells", c, "metrics.jsonl"))
	}
}

// checkSteps checks that each step has one line, in order.
func checkSteps(t *testing.T, name string) {
	t.Helper()
	lines, err := report.ReadMetrics(name)
	if err != nil {
		t.Fatal(err)
	}
	step := int64(0)
	for _, l := range lines {
		if l.Train == nil {
			continue
		}
		if step++; l.Step != step {
			t.Fatalf("%s: step %d in the place of %d", name, l.Step, step)
		}
	}
	if step != 12 {
		t.Errorf("%s: %d steps", name, step)
	}
}

// TestTwoProcesses lets two processes work on one grid: each cell is run by one.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	args := []string{"--config", "./tiny.yaml", "--out", "grid", "--device", "cpu", "--threads", "1", "--jobs", "1"}
	first, firstOutput := process(dir, args...)
	if err := first.Start(); err != nil {
		t.Fatal(err)
	}
	code, output := ablate(t, dir, args...)
	if err := first.Wait(); err != nil || code != cli.CodeOK {
		t.Fatalf("%v, exit code %d\n%s\n%s", err, code, firstOutput, output)
	}
	for _, c := range cells {
		checkSteps(t, filepath.Join(dir, "grid", "cells", c, "metrics.jsonl"))
		log, err := os.ReadFile(filepath.Join(dir, "grid", "cells", c, "log.txt"))
		if n := bytes.Count(log, []byte("parameters")); err != nil || n != 1 {
			t.Errorf("%s: %d runs, %v\n%s", c, n, err, log)
		}
	}
}

// TestReport writes the report again from a folder that has lost its checkpoints and
// a cell, and one from a folder that has no grid.
func TestReport(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	args := []string{"--config", "./tiny.yaml", "--out", "grid", "--device", "cpu", "--threads", "1", "--set", "trainer.steps=3"}
	if code, output := ablate(t, dir, append(args, "--report")...); code != cli.CodeConfig || !strings.Contains(output, "no grid to report on") {
		t.Errorf("exit code %d\n%s", code, output)
	}
	if code, output := ablate(t, dir, args...); code != cli.CodeOK {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	read := func() string {
		text, err := os.ReadFile(filepath.Join(dir, "grid", "report.md"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	whole := read()
	checkpoints, _ := filepath.Glob(filepath.Join(dir, "grid", "cells", "*", "checkpoints"))
	for _, c := range checkpoints {
		if err := os.RemoveAll(c); err != nil {
			t.Fatal(err)
		}
	}
	if code, output := ablate(t, dir, append(args, "--report")...); code != cli.CodeOK || len(checkpoints) != 4 {
		t.Fatalf("exit code %d, %d checkpoints\n%s", code, len(checkpoints), output)
	}
	same := func(text string) string { // but for who ran beside whom
		before, _, _ := strings.Cut(text, "## What this does not show")
		return before
	}
	if again := read(); same(again) != same(whole) {
		t.Errorf("written again it is\n%s\nnot\n%s", again, whole)
	}
	if err := os.RemoveAll(filepath.Join(dir, "grid", "cells", "mamba-seed2")); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "grid", "costs")); err != nil {
		t.Fatal(err)
	}
	if code, output := ablate(t, dir, append(args, "--report")...); code != cli.CodeOK {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	if again := read(); !strings.Contains(again, "1 of 4 runs are missing") || !strings.Contains(again, "nothing was timed alone") {
		t.Errorf("without a cell and costs:\n%s", again)
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	dir := workspace(t)
	code, output := ablate(t, dir, "--config", "./tiny.yaml", "--out", "grid", "--dry-run", "--device", "cpu", "--threads", "1")
	if code != cli.CodeOK {
		t.Fatalf("exit code %d\n%s", code, output)
	}
	for _, want := range []string{"Tiny: 4 cells", "FLOPs/token", "time/cell", "hybrid-seed1", "mamba-seed2", "in all"} {
		if !strings.Contains(output, want) {
			t.Errorf("%q is not in\n%s", want, output)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 2 {
		t.Errorf("%v was written, %v", entries, err)
	}
}

// TestBadInput holds what a user can get wrong: one line that names the cell or
// the key, the exit code of a fault of the configuration, and nothing written.
func TestBadInput(t *testing.T) {
	t.Parallel()
	dir, tiny := workspace(t), tinyGrid(t)
	write(t, filepath.Join(dir, "other", "notes.txt"), "not a grid")
	write(t, filepath.Join(dir, "wide.yaml"), strings.Replace(tiny, "offset=2]", "offset=2, model.hidden_size=64]", 1))
	write(t, filepath.Join(dir, "refused.yaml"), strings.Replace(tiny, "offset=2]", "offset=3]", 1))
	write(t, filepath.Join(dir, "steps.yaml"), strings.Replace(tiny, "offset=2]", "offset=2, trainer.steps=5]", 1))
	write(t, filepath.Join(dir, "broken.yaml"), strings.Replace(tiny, "seeds: [1, 2]", "seeds: [1, ", 1))
	write(t, filepath.Join(dir, "grid", "grid.yaml"), strings.Replace(tiny, "seeds: [1, 2]", "seeds: [1, 2, 3]", 1))
	for _, c := range []struct{ args, says string }{
		{"--config ablation_ration", "did you mean ablation_ratio?"},
		{"--config nano", "there are ablation_experts, "},
		{"--config ./none.yaml", "none.yaml"},
		{"--config ./broken.yaml", "broken.yaml"},
		{"--config ./wide.yaml", "variant mamba: no model.intermediate_size brings its parameters within 1% of hybrid's"},
		{"--config ./refused.yaml", "variant mamba: --set model.attn_layer_offset=3: model.attn_layer_offset: 3 must be"},
		{"--config ./steps.yaml", "variant mamba: trainer.steps is 5, that of hybrid is 12"},
		{"--config ./tiny.yaml --set model.attn_layer_perod=3", "did you mean model.attn_layer_period?"},
		{"--config ./tiny.yaml --set seedz=[3]", "did you mean seeds?"},
		{"--config ./tiny.yaml --set recall.lengths=[24]", "24 does not divide data.sequence_length, 32"},
		{"--config ./tiny.yaml --device tpu", `device "tpu"`},
		{"--config ./tiny.yaml --jobs -1", "--jobs -1"},
		{"--config ./tiny.yaml --out other", "other holds notes.txt"},
		{"--config ./tiny.yaml --out grid", "seeds is [1, 2, 3] there, [1, 2] now"},
		{"--config ./tiny.yaml extra", "extra"},
		{"--config ./tiny.yaml --set data.sources=[{path:nowhere}]", "nowhere"},
	} {
		code, output := ablate(t, dir, strings.Fields(c.args)...)
		if code != cli.CodeConfig || !strings.Contains(output, c.says) || strings.Count(output, "\n") > 2 {
			t.Errorf("%s: exit code %d, want %q in\n%s", c.args, code, c.says, output)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "runs")); err == nil {
		found, _ := filepath.Glob(filepath.Join(dir, "runs", "*", "cells", "*"))
		if len(found) > 0 {
			t.Errorf("%v was written", found)
		}
	}
}
