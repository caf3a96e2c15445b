//go:build unix

package main

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"jambalaya/internal/cli"
)

// startWorker starts one of two workers as a scheduler does: by environment variables, and
// with no mesh in the configuration, so that both train.
func startWorker(t *testing.T, dir string, rank, port int, args ...string) (wait func() process) {
	t.Helper()
	return startProgram(t, os.Args[0], dir, rank, port, args...)
}

// startProgram is startWorker with a program to choose.
func startProgram(t *testing.T, program, dir string, rank, port int, args ...string) (wait func() process) {
	t.Helper()
	args = append(ofTiny(), append([]string{"--set", "parallel.join_window_seconds=4"}, args...)...)
	cmd, stdout, stderr := newProcess(dir, args...)
	cmd.Path = program
	cmd.Env = append(cmd.Env, fmt.Sprint("RANK=", rank), "WORLD_SIZE=2", "MASTER_ADDR=127.0.0.1", fmt.Sprint("MASTER_PORT=", port))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	return func() process { return waitFor(cmd, stdout, stderr) }
}

func waitFor(cmd *exec.Cmd, stdout, stderr *bytes.Buffer) process {
	_ = cmd.Wait() // the exit code says how it ended
	return process{Code: cmd.ProcessState.ExitCode(), Stdout: stdout.String(), Stderr: stderr.String()}
}

// awaitFile waits until there is a file that a pattern names.
func awaitFile(t *testing.T, pattern string) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if found, err := filepath.Glob(pattern); err != nil || len(found) > 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("there is no %s", pattern)
		}
	}
}

// listen takes a port, which is free again after the returned function.
func listen(t *testing.T) (port int, free func()) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().(*net.TCPAddr).Port, func() { l.Close() }
}

// TestWorkersThatDoNotFit starts workers of which one is wrong: the run is refused
// before it trains, with a line that names the worker and the field.
func TestWorkersThatDoNotFit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		damage func(t *testing.T, dir string)
		args   []string // of worker 1
		code   int      // of worker 1
		stderr string   // of worker 1
		other  string   // what worker 0 says
	}{
		{name: "configuration", args: []string{"--set", "optim.lr=0.5"}, code: cli.CodeConfig,
			stderr: "worker 1 was refused: optim.lr: 0.5, but 0 has 0.0", other: "worker 1 refused: optim.lr: 0.5, but 0 has"},
		{name: "checkpoints", args: []string{"--set", "checkpoint.every=3"}, code: cli.CodeConfig,
			stderr: "worker 1 was refused: checkpoint.every: 3, but 0 has 2", other: "1 of 2 workers have joined (0), 2 are needed; worker 1 refused"},
		{name: "a shard that is missing", args: []string{"--set", "data.cache_dir=other"}, code: cli.CodeFailure,
			damage: func(t *testing.T, dir string) {
				copyTree(t, filepath.Join(dir, "cache"), filepath.Join(dir, "other"))
				shards, err := filepath.Glob(filepath.Join(dir, "other", "*", "train-00000.arrow"))
				if err != nil || len(shards) == 0 {
					t.Fatal("no shard", err)
				}
				if err := os.Remove(shards[0]); err != nil {
					t.Fatal(err)
				}
			},
			stderr: "train-00000.arrow", other: "worker 1: "},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir := newWorkspace(t)
			if err := os.RemoveAll(filepath.Join(dir, "run")); err != nil {
				t.Fatal(err)
			}
			if c.damage != nil {
				c.damage(t, dir)
			}
			port, free := listen(t)
			free()
			zero := startWorker(t, dir, 0, port)
			awaitFile(t, filepath.Join(dir, "run", "lease", "term-*")) // worker 0 coordinates, and joins before a process has started
			one := startWorker(t, dir, 1, port, c.args...)
			if p := one(); p.Code != c.code || !strings.Contains(p.Stderr, c.stderr) || strings.Count(p.Stderr, "\n") != 1 {
				t.Errorf("worker 1: want %q: %v", c.stderr, p)
			}
			if p := zero(); p.Code == 0 || !strings.Contains(p.Stderr, c.other) {
				t.Errorf("worker 0: want %q: %v", c.other, p)
			}
			if text, err := os.ReadFile(filepath.Join(dir, "run", "metrics.jsonl")); err == nil && strings.Contains(string(text), `"step":1,`) {
				t.Error("it has trained")
			}
		})
	}
}

// TestWorkersOfOtherPrograms: a worker whose program differs, here by what follows its
// end, is refused.
func TestWorkersOfOtherPrograms(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	text, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "train-other")
	if err := os.WriteFile(other, append(text, '\n'), 0o755); err != nil {
		t.Fatal(err)
	}
	port, free := listen(t)
	free()
	waits := []func() process{
		startWorker(t, dir, 0, port, "--out", "programs"),
		startProgram(t, other, dir, 1, port, "--out", "programs"),
	}
	// Who comes first decides which one is wrong.
	refused := regexp.MustCompile(`^train: worker ([01]) was refused: (binary: go\S+ \w+ .*sha256:[0-9a-f]{12}, but [01] has go.* sha256:[0-9a-f]{12}: start all workers with the same build)\n$`)
	left := regexp.MustCompile(`train: too few workers: .*; worker ([01]) refused: (.*)\n$`)
	var by [2][]string
	for rank, wait := range waits {
		p := wait()
		if by[rank] = refused.FindStringSubmatch(p.Stderr); by[rank] == nil {
			by[rank] = left.FindStringSubmatch(p.Stderr)
		}
		if p.Code != cli.CodeConfig || by[rank] == nil {
			t.Fatalf("worker %d: %v", rank, p)
		}
	}
	if !slices.Equal(by[0][1:], by[1][1:]) {
		t.Errorf("the workers do not say the same: %q and %q", by[0][1:], by[1][1:])
	}
}

func TestWorkersThatDoNotMeet(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	port, free := listen(t)
	defer free()
	taken := startWorker(t, dir, 0, port, "--out", "taken")()
	if taken.Code != cli.CodeConfig ||
		!strings.Contains(taken.Stderr, fmt.Sprintf("worker 0: gossip on 127.0.0.1:%d: address already in use: another run may hold it", port)) || !strings.Contains(taken.Stderr, "choose another port with MASTER_PORT") {
		t.Errorf("a taken port: %v", taken)
	}
	few := startWorker(t, dir, 1, port, "--out", "few", "--set", "parallel.join_window_seconds=1")()
	if few.Code != cli.CodeConfig || !strings.Contains(few.Stderr, "too few workers: after 1s, 1 of 2 workers have joined (1), 2 are needed") {
		t.Errorf("alone: %v", few)
	}
	join := train(t, dir, ofTiny("--out", "nowhere", "--join", "127.0.0.1:1", "--set", "parallel.data=2", "--set", "parallel.join_window_seconds=1")...)
	if join.Code != cli.CodeConfig || !strings.Contains(join.Stderr, "out: nowhere is not the directory of a run that has begun") {
		t.Errorf("another directory: %v", join)
	}
	if err := os.WriteFile(filepath.Join(dir, "few", "run.id"), []byte("0123456789abcdef\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(dir, "few", "lease")); err != nil {
		t.Fatal(err)
	}
	join = train(t, dir, ofTiny("--out", "few", "--join", "127.0.0.1:1", "--set", "parallel.data=2", "--set", "parallel.join_window_seconds=1")...)
	if join.Code != cli.CodeConfig || !strings.Contains(join.Stderr, "has found no coordinator within 1s; nobody of this run answers at 127.0.0.1:1 (--join)") {
		t.Errorf("a wrong address: %v", join)
	}
}

// TestLaunchStops asks a launcher to stop, and goes on with the same command.
func TestLaunchStops(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	args := func(run string) []string {
		return ofTiny("--out", run, "--nproc", "2", "--set", "trainer.steps=600", "--set", "trainer.eval_every=200", "--set", "checkpoint.every=500")
	}
	whole := train(t, dir, args("whole")...)
	if whole.Code != 0 {
		t.Fatal(whole)
	}
	signal, wait, seen := startAndWatch(t, dir, "step 200: validation", args("stopped")...)
	await(t, seen)
	signal(syscall.SIGTERM)
	p := wait()
	if p.Code != cli.CodeInterrupted || !strings.Contains(p.Stderr, "the same command goes on from here") || strings.Count(p.Stderr, "\n") != 1 {
		t.Fatal(p)
	}
	if p = train(t, dir, args("stopped")...); p.Code != 0 || !strings.Contains(p.Stdout, "resumed from step") {
		t.Fatal(p)
	}
	if metrics(t, filepath.Join(dir, "stopped")) != metrics(t, filepath.Join(dir, "whole")) {
		t.Error("the metrics are not those of the run that was not stopped")
	}
}
