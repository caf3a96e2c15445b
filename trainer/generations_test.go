package trainer

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"jambalaya/internal/vfs"
	"jambalaya/parallel"
)

// TestGenerations: a process that trains in one generation after the other introduces
// itself once, and keeps none of their directories open.
func TestGenerations(t *testing.T) {
	t.Parallel()
	cache, dir, out := t.TempDir(), t.TempDir(), testOut(t)
	cfg := worldConfig(cache, parallel.Mesh{Data: 2, Expert: 1})
	for generation := range uint64(3) {
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		for _, err := range runWorld(t, ctx, dir, cfg, generation+1, func(rank int, _ *Config, opt *Options) {
			opt.World.Again, opt.World.Watch = generation > 0, func(Progress) { stop() }
			if rank == 0 {
				opt.Stdout = out
			}
		}) {
			if !errors.Is(err, ErrStopped) {
				t.Fatal(err)
			}
		}
		if n := holds(t, dir); n != 0 {
			t.Errorf("generation %d leaves the run's directory open %d times", generation+1, n)
		}
	}
	text, err := os.ReadFile(out.Name())
	if err != nil {
		t.Fatal(err)
	}
	for line, times := range map[string]int{"data: ": 1, "model: ": 1, "memory: ": 1, "ranks: ": 3, "resumed from ": 2} {
		if n := strings.Count("\n"+string(text), "\n"+line); n != times {
			t.Errorf("%q is said %d times, not %d:\n%s", line, n, times, text)
		}
	}
}

// TestSaveInFlight: a generation that ends while a checkpoint is being written does not
// wait for that; it is finished all the same, and only then is the directory let go.
func TestSaveInFlight(t *testing.T) {
	t.Parallel()
	cache, dir := t.TempDir(), t.TempDir()
	writing, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	errs := runWorld(t, t.Context(), dir, worldConfig(cache, parallel.Mesh{Data: 2, Expert: 1}), 1, func(rank int, cfg *Config, opt *Options) {
		if rank > 0 {
			return
		}
		opt.wrap = func(fsys vfs.FS) vfs.FS {
			return vfs.NewFaults(fsys, func(op vfs.Op) error {
				if op.Kind == "rename" {
					once.Do(func() { close(writing) })
					<-release
				}
				return nil
			})
		}
		opt.World.Watch = func(p Progress) {
			if p.Step == int64(cfg.Checkpoint.Every) {
				<-writing
				opt.World.Transport.Abort(errors.New("out of luck"))
			}
		}
	})
	for _, err := range errs {
		if !errors.Is(err, parallel.ErrAborted) {
			t.Errorf("the generation ended with %v", err)
		}
	}
	until := func(n int) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); holds(t, dir) != n; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("the run's directory is open %d times, not %d", holds(t, dir), n)
			}
		}
	}
	until(1) // rank 1 has given up its part
	close(release)
	until(0)
	if saved, err := filepath.Glob(filepath.Join(dir, checkpointDir, "step-*")); err != nil || len(saved) != 1 {
		t.Errorf("checkpoints %v, %v", saved, err)
	}
}

// holds counts how often this process has a directory open.
func holds(t *testing.T, dir string) (n int) {
	t.Helper()
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	open, err := filepath.Glob("/proc/self/fd/*")
	if err != nil || len(open) == 0 {
		t.Skip("this system does not list open files in /proc")
	}
	for _, name := range open {
		if to, err := os.Readlink(name); err == nil && to == dir {
			n++
		}
	}
	return n
}
