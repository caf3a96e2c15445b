package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jambalaya/internal/cli"
)

// mount puts a small file system at dir/disk. It takes the right to mount.
func mount(t *testing.T, dir, options string) string {
	t.Helper()
	disk := filepath.Join(dir, "disk")
	if err := os.Mkdir(disk, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, options); err != nil {
		t.Skip("mount:", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(disk, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return disk
}

// fill leaves the given number of bytes of a disk free, but for less than a page.
func fill(t *testing.T, disk string, free uint64) (ballast string) {
	t.Helper()
	var s unix.Statfs_t
	if err := unix.Statfs(disk, &s); err != nil {
		t.Fatal(err)
	}
	ballast = filepath.Join(disk, "ballast")
	if err := os.WriteFile(ballast, make([]byte, max(0, int64(s.Bavail)*s.Bsize-int64(free))), 0o666); err != nil {
		t.Fatal(err)
	}
	return ballast
}

// onDisk are the arguments of a run of some steps on the small disk.
func onDisk(more ...string) []string {
	return ofTiny(append([]string{"--out", "disk/run"}, more...)...)
}

func TestFullDiskWhileSharding(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	disk := mount(t, dir, "size=32k")
	p := train(t, dir, ofTiny("--set", "data.cache_dir=disk", "--out", "new")...)
	checkProcess(t, p, cli.CodeFailure, []string{"data: sources[0] text: in disk", "no space left on device", "free space there or choose another place"}, nil)
	if left, err := os.ReadDir(disk); err != nil || len(left) > 1 { // the lock
		t.Errorf("left %v, %v", left, err)
	}
}

// TestFullDiskAtCheckpoints fills the disk after the first checkpoint: the next ones
// fail, the run says so, goes on, gives up, and with space again goes on from the
// first one.
func TestFullDiskAtCheckpoints(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	disk := mount(t, dir, "size=4m")
	if p := train(t, dir, onDisk()...); p.Code != 0 {
		t.Fatal(p)
	}
	want := metrics(t, filepath.Join(disk, "run"))
	for _, name := range []string{"step-00000004", "step-00000006"} {
		if err := os.RemoveAll(filepath.Join(disk, "run/checkpoints", name)); err != nil {
			t.Fatal(err)
		}
	}
	ballast := fill(t, disk, 128<<10)
	p := train(t, dir, onDisk("--set", "checkpoint.every=1")...)
	checkProcess(t, p, cli.CodeFailure,
		[]string{"too many checkpoints in a row could not be saved (3)", "no space left on device; free some space or lower checkpoint.keep"},
		[]string{"resumed from step 2 of 6", "warning: checkpoint of step 3 failed", "the one before it stays, training goes on", "warning: checkpoint of step 4 failed"})
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	checkProcess(t, train(t, dir, onDisk()...), 0, nil, []string{"resumed from step 2 of 6"})
	if metrics(t, filepath.Join(disk, "run")) != want {
		t.Error("the metrics are not those of a run without interruption")
	}
}

func TestFullDiskAtMetrics(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	disk := mount(t, dir, "size=4m")
	long := []string{"--set", "trainer.steps=2000", "--set", "trainer.eval_every=2000", "--set", "checkpoint.every=2000"}
	copyTree(t, filepath.Join(dir, "run"), filepath.Join(disk, "run"))
	edit("disk/run/config.yaml", "steps: 6", "steps: 2000")(t, dir)
	if err := os.RemoveAll(filepath.Join(disk, "run/checkpoints")); err != nil {
		t.Fatal(err)
	}
	ballast := fill(t, disk, 64<<10)
	p := train(t, dir, onDisk(long...)...)
	checkProcess(t, p, cli.CodeFailure, []string{"metrics: step ", "metrics.jsonl: no space left on device; free some space and run it again"}, nil)
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if text := metrics(t, filepath.Join(disk, "run")); !strings.Contains(text, `"step":10,`) {
		t.Errorf("no whole lines: %s", text)
	}
}

// TestReadOnly runs on a file system that is mounted read-only: not even root can
// write to it.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	dir := newWorkspace(t)
	disk := mount(t, dir, "size=4m")
	if p := train(t, dir, onDisk()...); p.Code != 0 {
		t.Fatal(p)
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
		t.Skip("remount:", err)
	}
	for _, c := range []struct {
		name   string
		args   []string
		stderr []string
	}{
		{"new run", onDisk("--out", "disk/new"), []string{"run directory: mkdir disk/new: read-only file system; choose another with --out"}},
		{"run", onDisk(), []string{"run directory: open disk/run/.lock: read-only file system; choose another with --out"}},
		{"fresh", onDisk("--fresh"), []string{"run directory: ", "read-only file system; choose another with --out"}},
		{"cache", ofTiny("--out", "new", "--set", "data.cache_dir=disk/cache"), []string{"cannot make the cache folder, choose another with data.cache_dir", "read-only file system"}},
	} {
		t.Run(c.name, func(t *testing.T) { checkProcess(t, train(t, dir, c.args...), cli.CodeFailure, c.stderr, nil) })
	}
	if steps := names(contents(t, filepath.Join(disk, "run"))); !slices.Contains(steps, "checkpoints/step-00000006/manifest.json") {
		t.Errorf("left %q", steps)
	}
}
