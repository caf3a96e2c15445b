package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/checkpoint"
	"jambalaya/internal/cli"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

// newRun makes a run with checkpoints of steps 10 and 20.
func newRun(t *testing.T) string {
	t.Helper()
	run := t.TempDir()
	root, err := vfs.Dir(run)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m, err := checkpoint.Open(root, checkpointsDir, checkpoint.Options{Config: checkpoint.Default()})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []int64{10, 20} {
		err := m.Save(&checkpoint.Snapshot{State: checkpoint.State{Step: step}, Tensors: []checkpoint.Tensor{{
			Name: "w", Group: checkpoint.GroupModel, DType: safetensors.F32, Shape: []int64{4}, Data: make([]byte, 16),
		}}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Wait(); err != nil {
		t.Fatal(err)
	}
	return run
}

func execute(args ...string) (out string, code int) {
	var buf bytes.Buffer
	cmd := newCommand()
	cmd.SetArgs(args)
	cmd.SetOut(&buf)
	cmd.SetErr(&buf)
	code = cli.Execute(context.Background(), cmd)
	return buf.String(), code
}

func wantOutput(t *testing.T, args []string, wantCode int, want ...string) {
	t.Helper()
	out, code := execute(args...)
	if code != wantCode {
		t.Errorf("%v: exit code %d, want %d: %s", args, code, wantCode, out)
	}
	for _, w := range want {
		if !strings.Contains(out, w) {
			t.Errorf("%v: no %q in %q", args, w, out)
		}
	}
}

func TestCommands(t *testing.T) {
	t.Parallel()
	run := newRun(t)
	wantOutput(t, []string{"ls", "--run", run}, 0, "step-00000020", "step-00000010", "GENERATION")
	wantOutput(t, []string{"verify", "--run", run}, 0, "ok   step-00000020: 1 tensors", "ok   step-00000010")

	name := filepath.Join(run, checkpointsDir, "step-00000020", "model-r0000-of-0001.safetensors")
	if err := os.Truncate(name, 20); err != nil {
		t.Fatal(err)
	}
	wantOutput(t, []string{"verify", "--run", run}, 1, "BAD  checkpoint step-00000020: corrupt: model-r0000-of-0001.safetensors",
		"1 of 2 checkpoints are damaged; train goes on from step-00000010")
	if err := os.WriteFile(filepath.Join(run, checkpointsDir, "step-00000010", "manifest.json"), []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	wantOutput(t, []string{"ls", "--run", run}, 0, "step-00000020", "manifest.json does not match")
	wantOutput(t, []string{"verify", "--run", run}, 1, "none of 2 checkpoints is whole")
}

func TestBadCommandLines(t *testing.T) {
	t.Parallel()
	empty := t.TempDir()
	wantOutput(t, []string{"ls", "--run", empty}, 0, "no checkpoints in "+empty)
	wantOutput(t, []string{"verify", "--run", empty}, 1, "no checkpoint in "+empty)
	wantOutput(t, nil, 0, "Usage:")
	wantOutput(t, []string{"vrify"}, 78, `unknown command "vrify"`)
	wantOutput(t, []string{"ls", "extra"}, 78, `unexpected argument "extra"; try ckpt ls --help`)
	wantOutput(t, []string{"ls"}, 78, "--run")
	wantOutput(t, []string{"ls", "--run", filepath.Join(empty, "none")}, 78, "there is no run at")
}
