package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"jambalaya/internal/cli"
)

// failingDisk fills a small disk and makes it read-only under a run, and lets single
// system calls fail.
func failingDisk(ctx context.Context, l *lab) (result, error) {
	if err := l.fullDisk(ctx); err != nil {
		return result{}, fmt.Errorf("full disk: %w", err)
	}
	if err := l.readOnlyDisk(ctx); err != nil {
		return result{}, fmt.Errorf("read-only disk: %w", err)
	}
	failed, err := l.failSaveCalls(ctx)
	figure := fmt.Sprintf("full and read-only disk, EIO at %d system calls of a save: all went on, the previous checkpoint intact, the end bit-identical", failed)
	return result{figure, err == nil}, err
}

// mount puts a small file system at a directory of the row.
func (l *lab) mount(name string) (dir string, unmount func() error, err error) {
	if dir, err = l.place(name); err != nil {
		return "", nil, err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		return "", nil, errSkip{fmt.Sprintf("a small disk cannot be mounted: %v", err)}
	}
	return dir, func() error { return unix.Unmount(dir, unix.MNT_DETACH) }, nil
}

// fullDisk lets a run go on from its first checkpoint on a disk that is full. The run
// has to train on, the checkpoint to stay; with space again, the run has to come to the
// end of one that was never disturbed.
func (l *lab) fullDisk(ctx context.Context) (err error) {
	disk, unmount, err := l.mount("full")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	run, ballast := filepath.Join(disk, "run"), filepath.Join(disk, "ballast")
	args := l.arguments(run, set("trainer.steps=100", "checkpoint.max_failures=100", "checkpoint.keep=10")...)
	if _, err := l.complete(ctx, cli.CodeOK, args...); err != nil {
		return err
	}
	want, err := outcomeOf(ctx, run)
	if err != nil {
		return err
	}
	for step := 40; step <= 100; step += 20 {
		if err := os.RemoveAll(filepath.Join(run, checkpointDir, fmt.Sprintf("step-%08d", step))); err != nil {
			return err
		}
	}
	if err := fill(disk, ballast, 128<<10); err != nil {
		return err
	}
	if err := l.goesOnWithout(ctx, run, "no space left on device", 20, args); err != nil {
		return err
	}
	if err := os.Remove(ballast); err != nil {
		return err
	}
	return l.completesLike(ctx, run, args, want)
}

// goesOnWithout runs a run whose saves fail for a reason.
func (l *lab) goesOnWithout(ctx context.Context, run, reason string, step int64, args []string) error {
	p, err := l.start(ctx, l.train, args...)
	if err != nil {
		return err
	}
	if code := p.code(); code != cli.CodeFailure {
		return fmt.Errorf("exit code %d although the last checkpoint is missing: %s", code, p.lastLine())
	}
	return p.wentOn(ctx, run, reason, step)
}

// wentOn checks what a process said of saves that failed, and what it left.
func (p *process) wentOn(ctx context.Context, run, reason string, step int64) error {
	for _, text := range []string{reason, "the one before it stays, training goes on", "last checkpoint"} {
		if has, _ := p.out.has(text); !has {
			return fmt.Errorf("it does not say %q: %s", text, p.lastLine())
		}
	}
	left, err := newestStep(ctx, run)
	if err == nil && left != step {
		err = fmt.Errorf("the newest checkpoint is of step %d, not %d", left, step)
	}
	return err
}

func (l *lab) completesLike(ctx context.Context, run string, args []string, want outcome) error {
	if _, err := l.complete(ctx, cli.CodeOK, args...); err != nil {
		return err
	}
	got, err := outcomeOf(ctx, run)
	if err != nil {
		return err
	}
	if d := got.differs(want); d != "" {
		return errors.New(d)
	}
	return nil
}

// readOnlyDisk makes the disk of the checkpoints read-only while a run saves to it.
func (l *lab) readOnlyDisk(ctx context.Context) (err error) {
	long := set("trainer.steps=3000", "trainer.eval_every=3000", "checkpoint.every=200", "checkpoint.max_failures=100")
	want, err := l.reference(ctx, long...)
	if err != nil {
		return err
	}
	run, err := l.place("readonly")
	if err != nil {
		return err
	}
	disk, unmount, err := l.mount("readonly/" + checkpointDir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unmount()) }()
	args := l.arguments(run, long...)
	p, err := l.start(ctx, l.train, args...)
	if err != nil {
		return err
	}
	for remounted := false; !remounted; {
		select {
		case <-p.done:
			return fmt.Errorf("the run ended before the disk became read-only: %s", p.lastLine())
		case <-time.After(5 * time.Millisecond):
		}
		step, err := newestStep(ctx, run)
		if err != nil {
			return err
		}
		// Busy while a file is open for writing.
		remounted = step > 0 && unix.Mount("", disk, "", unix.MS_REMOUNT|unix.MS_RDONLY, "") == nil
	}
	before, err := newestStep(ctx, run)
	if err != nil {
		return err
	}
	p.code()
	if err := p.wentOn(ctx, run, "read-only file system", before); err != nil {
		return err
	}
	if err := unix.Mount("", disk, "", unix.MS_REMOUNT, ""); err != nil {
		return err
	}
	return l.completesLike(ctx, run, args, want)
}

// fill leaves the given number of bytes of a disk free, but for less than a page.
func fill(disk, ballast string, free uint64) error {
	var s unix.Statfs_t
	if err := unix.Statfs(disk, &s); err != nil {
		return err
	}
	return os.WriteFile(ballast, make([]byte, max(0, int64(s.Bavail)*s.Bsize-int64(free))), 0o666)
}
