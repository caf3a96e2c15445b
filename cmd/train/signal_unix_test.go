//go:build unix

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"jambalaya/internal/cli"
)

// watcher is an output that tells when it holds a text.
type watcher struct {
	mu   sync.Mutex
	text bytes.Buffer
	mark string
	seen chan struct{}
}

func (w *watcher) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := strings.Contains(w.text.String(), w.mark)
	w.text.Write(p)
	if !before && strings.Contains(w.text.String(), w.mark) {
		close(w.seen)
	}
	return len(p), nil
}

func (w *watcher) read() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text.String()
}

// startAndWatch starts a process; the channel is closed when it has written mark.
func startAndWatch(t *testing.T, dir, mark string, args ...string) (signal func(os.Signal), wait func() process, seen <-chan struct{}) {
	t.Helper()
	signal, wait, _, seen = startAndRead(t, dir, mark, args...)
	return signal, wait, seen
}

// startAndRead is startAndWatch for who also wants to read the output so far.
func startAndRead(t *testing.T, dir, mark string, args ...string) (signal func(os.Signal), wait func() process, read func() string, seen <-chan struct{}) {
	t.Helper()
	cmd, _, stderr := newProcess(dir, args...)
	out := &watcher{mark: mark, seen: make(chan struct{})}
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	wait = func() process {
		_ = cmd.Wait() // the exit code says how it ended
		return process{Code: cmd.ProcessState.ExitCode(), Stdout: out.text.String(), Stderr: stderr.String()}
	}
	signal = func(s os.Signal) {
		if err := cmd.Process.Signal(s); err != nil {
			t.Error(err)
		}
	}
	return signal, wait, out.read, out.seen
}

func await(t *testing.T, seen <-chan struct{}) {
	t.Helper()
	select {
	case <-seen:
	case <-time.After(20 * time.Second):
		t.Fatal("the process does not come to the place to be interrupted at")
	}
}

// TestSignals interrupts a run, and compares what it becomes when the command is
// given again with a run that was not interrupted.
func TestSignals(t *testing.T) {
	t.Parallel()
	const steps = "600"
	dir := newWorkspace(t)
	args := func(run string) []string {
		return ofTiny("--out", run, "--set", "trainer.steps="+steps, "--set", "trainer.eval_every=100", "--set", "checkpoint.every=1000")
	}
	whole := train(t, dir, args("whole")...)
	if whole.Code != 0 {
		t.Fatal(whole)
	}
	for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			run := strings.ReplaceAll(s.String(), " ", "-")
			signal, wait, seen := startAndWatch(t, dir, "step 100: validation", args(run)...)
			await(t, seen)
			signal(s)
			p := wait()
			checkProcess(t, p, cli.CodeInterrupted, []string{"of " + steps + ": stopped; the same command goes on from here"}, nil)
			p = train(t, dir, args(run)...)
			checkProcess(t, p, 0, nil, []string{"resumed from step ", "of " + steps})
			if metrics(t, filepath.Join(dir, run)) != metrics(t, filepath.Join(dir, "whole")) {
				t.Error("the metrics are not those of a run without interruption")
			}
			weights := "checkpoints/step-00000" + steps + "/model-r0000-of-0001.safetensors"
			if contents(t, filepath.Join(dir, run))[weights] != contents(t, filepath.Join(dir, "whole"))[weights] {
				t.Error("the weights are not those of a run without interruption")
			}
		})
	}
}

// TestInterruptedBeforeTraining stops a run while it prepares its data.
func TestInterruptedBeforeTraining(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	signal, wait, seen := startAndWatch(t, dir, "train tokenizer", "--config", "nano", "--out", "new", "--set", "data.cache_dir=new-cache",
		"--set", "data.tokenizer=bpe-60000", "--set", "model.vocab_size=60000")
	await(t, seen)
	signal(syscall.SIGINT)
	checkProcess(t, wait(), cli.CodeInterrupted, []string{"interrupted; run it again"}, nil)
}

// TestBusy starts a second process in the directory of a run in progress, which
// must not touch it, not even with --fresh.
func TestBusy(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	args := ofTiny("--out", "busy", "--set", "trainer.steps=1000000", "--set", "trainer.eval_every=100")
	signal, wait, seen := startAndWatch(t, dir, "step 100: validation", args...)
	await(t, seen)
	const busy = "busy: another process trains in this directory; wait for it, or choose another with --out"
	checkProcess(t, train(t, dir, args...), cli.CodeFailure, []string{busy}, nil)
	checkProcess(t, train(t, dir, append(args, "--fresh")...), cli.CodeFailure, []string{busy}, nil)
	signal(syscall.SIGINT)
	checkProcess(t, wait(), cli.CodeInterrupted, []string{"stopped"}, nil)
}

// TestFresh keeps what an earlier run left.
func TestFresh(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	before := contents(t, filepath.Join(dir, "run"))
	p := train(t, dir, ofTiny("--fresh", "--set", "trainer.seed=2")...)
	checkProcess(t, p, 0, nil, []string{"the earlier run is now in run.old-1", "start: validation", "6 steps, 384 tokens"})
	for name, text := range contents(t, filepath.Join(dir, "run.old-1")) {
		if before[name] != text {
			t.Errorf("%s was changed", name)
		}
	}
	if metrics(t, filepath.Join(dir, "run")) == metrics(t, filepath.Join(dir, "run.old-1")) {
		t.Error("the new run is the old one")
	}
}
