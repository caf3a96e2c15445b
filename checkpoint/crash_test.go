package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"testing"

	"jambalaya/internal/prng"
	"jambalaya/internal/vfs"
)

// scenario is a run that resumes and saves until something stops it: enough steps
// for retention to delete. It returns the last step whose save was reported good.
func scenario(fsys vfs.FS, saves int) (acknowledged int64, err error) {
	acknowledged = -1
	m, err := Open(fsys, dir, Options{Config: Config{Every: 10, Keep: 2, KeepEvery: 30, MaxFailures: 3}})
	if err != nil {
		return acknowledged, err
	}
	c, _, err := m.Latest(context.Background())
	if err != nil && !errors.Is(err, ErrNone) {
		return acknowledged, err
	}
	step := int64(0)
	if c != nil {
		step = c.Manifest.Step
	}
	for range saves {
		step += 10
		if err := m.Save(snapshot(step)); err != nil {
			return acknowledged, err
		}
		if err := m.Wait(); err == nil {
			acknowledged = step
		}
	}
	return acknowledged, m.Wait()
}

// operations counts those of a scenario without faults.
func operations(t *testing.T) int {
	t.Helper()
	counter := vfs.NewFaults(vfs.NewMem(), func(vfs.Op) error { return nil })
	if _, err := scenario(counter, 4); err != nil {
		t.Fatal(err)
	}
	if counter.Count() < 200 {
		t.Fatalf("only %d operations", counter.Count())
	}
	return counter.Count()
}

// checkAfter opens what a stopped scenario left: nothing that was acknowledged is
// lost, nothing half-written is visible, and the run goes on.
func checkAfter(fsys vfs.FS, acknowledged int64) error {
	m, err := Open(fsys, dir, Options{Config: Default()})
	if err != nil {
		return err
	}
	c, skipped, err := m.Latest(context.Background())
	if len(skipped) > 0 {
		return fmt.Errorf("skipped %v", skipped)
	}
	if errors.Is(err, ErrNone) {
		if acknowledged >= 0 {
			return fmt.Errorf("step %d is lost", acknowledged)
		}
		return nil
	}
	if err != nil {
		return err
	}
	if c.Manifest.Step < acknowledged {
		return fmt.Errorf("step %d is lost, the newest is %d", acknowledged, c.Manifest.Step)
	}
	if err := checkContents(c); err != nil {
		return err
	}
	files, err := fsys.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if _, ok := parseStep(f.Name()); !ok {
			return fmt.Errorf("%s is left", f.Name())
		}
	}
	if _, err := scenario(fsys, 1); err != nil {
		return fmt.Errorf("the run does not go on: %w", err)
	}
	return nil
}

// TestKillAtEveryOperation kills the process: what it wrote stays.
func TestKillAtEveryOperation(t *testing.T) {
	t.Parallel()
	for n, end := 0, operations(t); n < end; n += stride {
		mem := vfs.NewMem()
		acknowledged, err := scenario(vfs.NewFaults(mem, vfs.FailFrom(n, vfs.ErrKilled)), 4)
		if err == nil && acknowledged < 40 {
			t.Errorf("operation %d: the killed run reports success", n)
		}
		if err := checkAfter(mem, acknowledged); err != nil {
			t.Errorf("killed at operation %d: %v", n, err)
		}
	}
}

// TestPowerCutAtEveryOperation loses what was not synced: all of it, or by chance.
func TestPowerCutAtEveryOperation(t *testing.T) {
	t.Parallel()
	for n, end := 0, operations(t); n < end; n += stride {
		for seed := range uint64(2) {
			mem := vfs.NewMem()
			acknowledged, _ := scenario(vfs.NewFaults(mem, vfs.FailFrom(n, vfs.ErrKilled)), 4)
			var chance *prng.Rand
			if seed > 0 {
				chance = prng.New(seed, fmt.Sprint("crash/", n))
			}
			mem.Crash(chance)
			if err := checkAfter(mem, acknowledged); err != nil {
				t.Errorf("power cut at operation %d, seed %d: %v", n, seed, err)
			}
		}
	}
}

// TestFailEveryOperation lets one operation fail: the run goes on, and loses at
// most the save it belonged to.
func TestFailEveryOperation(t *testing.T) {
	t.Parallel()
	for n, end := 0, operations(t); n < end; n += stride {
		mem := vfs.NewMem()
		acknowledged, err := scenario(vfs.NewFaults(mem, vfs.FailAt(n, syscall.EIO)), 4)
		if err != nil && acknowledged >= 0 && acknowledged < 30 {
			t.Errorf("operation %d ended the run at step %d: %v", n, acknowledged, err)
		}
		if err := checkAfter(mem, acknowledged); err != nil {
			t.Errorf("after the failure of operation %d: %v", n, err)
		}
	}
}
