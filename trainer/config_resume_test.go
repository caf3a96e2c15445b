package trainer

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/checkpoint"
	"jambalaya/internal/config"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

// TestOlderProgramsRunGoesOn resumes what a program left that did not know a key yet:
// neither its configuration nor the hash in its checkpoints has it.
func TestOlderProgramsRunGoesOn(t *testing.T) {
	t.Parallel()
	cache, dir := t.TempDir(), t.TempDir()
	cfg := tinyConfig(cache)
	cfg.Trainer.Steps = 12
	opt := Options{Name: "tiny", Out: dir, Stdout: testOut(t)}
	run := func(cfg Config) error { return Run(t.Context(), cfg, opt) }
	ctx, cancel := context.WithCancel(t.Context())
	stopping := opt
	stopping.wrap = func(fsys vfs.FS) vfs.FS { // ask it to stop at its first checkpoint
		return vfs.NewFaults(fsys, func(op vfs.Op) error {
			if op.Kind == "rename" {
				cancel()
			}
			return nil
		})
	}
	if err := Run(ctx, cfg, stopping); !errors.Is(err, ErrStopped) {
		t.Fatal(err)
	}

	const key = "model.expert_capacity_factor"
	forget(t, filepath.Join(dir, configFile), "expert_capacity_factor:")
	recorded, err := LoadRun(dir)
	if err != nil {
		t.Fatal(err)
	}
	hash, err := config.HashOf(recorded.identity(), func(k string) bool { return k != key })
	if err != nil {
		t.Fatal(err)
	}
	saveAgain(t, dir, func(s *checkpoint.State) { s.ConfigHash = hash })

	other := cfg
	other.Model.ExpertCapacityFactor = 2
	if err := run(other); err == nil || !strings.Contains(err.Error(), key+": the run was started with 0, not 2") {
		t.Errorf("with another value than the default: %v", err)
	}
	if err := run(cfg); err != nil {
		t.Errorf("with the default: %v", err)
	}
	if n := len(lossesOf(t, dir)); n != cfg.Trainer.Steps {
		t.Errorf("%d steps, want %d", n, cfg.Trainer.Steps)
	}
	saveAgain(t, dir, func(s *checkpoint.State) { s.ConfigHash = strings.Repeat("0", 64) })
	if err := run(cfg); err == nil || !strings.Contains(err.Error(), "is not of the configuration") {
		t.Errorf("a checkpoint of another configuration: %v", err)
	}
}

// forget takes the lines with a text out of a file.
func forget(t *testing.T, name, text string) {
	t.Helper()
	all, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var rest [][]byte
	for _, line := range bytes.SplitAfter(all, []byte("\n")) {
		if !bytes.Contains(line, []byte(text)) {
			rest = append(rest, line)
		}
	}
	if err := os.WriteFile(name, bytes.Join(rest, nil), 0o644); err != nil {
		t.Fatal(err)
	}
}

// saveAgain replaces a run's newest checkpoint by one with another state.
func saveAgain(t *testing.T, dir string, change func(*checkpoint.State)) {
	t.Helper()
	fsys, err := vfs.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer fsys.Close()
	found, _, err := checkpoint.Find(t.Context(), fsys, checkpointDir)
	if err != nil {
		t.Fatal(err)
	}
	s := checkpoint.Snapshot{State: *found.State}
	change(&s.State)
	for _, info := range found.Tensors() {
		size := int64(1)
		for _, n := range info.Shape {
			size *= n
		}
		values := make([]float32, size)
		if err := found.Load(info.Name, values); err != nil {
			t.Fatal(err)
		}
		s.Tensors = append(s.Tensors, checkpoint.Tensor{Name: info.Name, DType: info.DType, Shape: info.Shape, Group: checkpoint.GroupModel, Data: safetensors.Bytes(values)})
	}
	if err := vfs.RemoveAll(fsys, checkpointDir); err != nil {
		t.Fatal(err)
	}
	store, err := checkpoint.Open(fsys, checkpointDir, checkpoint.Options{Config: checkpoint.Default()})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.Save(&s), store.Wait()); err != nil {
		t.Fatal(err)
	}
}
