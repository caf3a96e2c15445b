package chaos

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"jambalaya/checkpoint"
	"jambalaya/internal/cli"
	"jambalaya/internal/vfs"
)

// diskRows damage what is on disk, or the disk.
var diskRows = []row{
	{12, "kill -9 at every save system call", "the newest manifest always verifies", killAtSaveCalls},
	{13, "flipped checkpoint bits", "all detected, fallback works", flipBits},
	{14, "each file cut, emptied or deleted", "named, fallback within 5 s", damageFiles},
	{15, "full disk, EIO, read-only disk", "training goes on, the previous one intact", failingDisk},
	{16, "saving every 20 steps", "mean step at most 1.05 x without", savingCost},
}

// damaged is a complete run to damage again and again.
type damaged struct {
	l    *lab
	dir  string
	want outcome
}

func (l *lab) runToDamage(ctx context.Context) (*damaged, error) {
	dir, err := l.place("run")
	if err != nil {
		return nil, err
	}
	if _, err := l.complete(ctx, cli.CodeOK, l.arguments(dir, set("trainer.steps=100")...)...); err != nil {
		return nil, err
	}
	want, err := outcomeOf(ctx, dir)
	return &damaged{l, dir, want}, err
}

// newestDir is the directory of the newest checkpoint.
func (d *damaged) newestDir() string { return filepath.Join(d.dir, checkpointDir, "step-00000100") }

// recovers starts the run, which has to name the damaged file, fall back to the
// checkpoint before, and come to the same end.
func (d *damaged) recovers(ctx context.Context, file string) (time.Duration, error) {
	start := time.Now()
	p, err := d.l.start(ctx, d.l.train, d.l.arguments(d.dir, set("trainer.steps=100")...)...)
	if err != nil {
		return 0, err
	}
	if err := p.await(ctx, "resumed from step 80"); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if code := p.code(); code != cli.CodeOK {
		return took, fmt.Errorf("exit code %d: %s", code, p.lastLine())
	}
	for line := range strings.Lines(p.out.String()) {
		if strings.HasPrefix(line, "warning: checkpoint step-00000100: corrupt") && strings.Contains(line, file) {
			got, err := outcomeOf(ctx, d.dir)
			if err != nil {
				return took, err
			}
			if diff := got.differs(d.want); diff != "" {
				return took, errors.New(diff)
			}
			return took, nil
		}
	}
	return took, fmt.Errorf("no line names the damage of %s", file)
}

func (d *damaged) files() ([]string, error) {
	entries, err := os.ReadDir(d.newestDir())
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

// flipBits flips random bits of the newest checkpoint, one at a time, in all files in
// proportion to nothing: each file gets as many. Some of the flips are left for a real
// start to find.
func flipBits(ctx context.Context, l *lab) (result, error) {
	d, err := l.runToDamage(ctx)
	if err != nil {
		return result{}, err
	}
	files, err := d.files()
	if err != nil {
		return result{}, err
	}
	root, err := vfs.Dir(d.dir)
	if err != nil {
		return result{}, err
	}
	defer root.Close()
	flips, starts := l.reps(2_000, 10_000), l.reps(7, 70)
	chance := l.chance()
	undetected := 0
	for i := range flips {
		file := files[i%len(files)]
		restore, err := flip(filepath.Join(d.newestDir(), file), chance.Float64())
		if err != nil {
			return result{}, err
		}
		if _, err = checkpoint.Verify(ctx, root, checkpointDir, "step-00000100"); ctx.Err() != nil {
			return result{}, ctx.Err()
		} else if !errors.Is(err, checkpoint.ErrCorrupt) && !errors.Is(err, checkpoint.ErrFormat) {
			undetected++
		}
		if err := restore(); err != nil {
			return result{}, err
		}
	}
	figure := fmt.Sprintf("%d of %d detected", flips-undetected, flips)
	for i := range starts {
		file := files[i%len(files)]
		if _, err := flip(filepath.Join(d.newestDir(), file), 0.5+chance.Float64()/2); err != nil {
			return result{}, err
		}
		if _, err := d.recovers(ctx, file); err != nil {
			return result{figure: figure}, fmt.Errorf("start after a flip in %s: %w", file, err)
		}
	}
	return result{fmt.Sprintf("%s; %d of %d starts fell back and ended bit-identical", figure, starts, starts), undetected == 0}, nil
}

// flip changes one bit of a file, at a fraction of its length.
func flip(name string, at float64) (restore func() error, err error) {
	good, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	bad := slices.Clone(good)
	bit := int(at * float64(len(bad)*8))
	bad[bit/8] ^= 1 << (bit % 8)
	return func() error { return os.WriteFile(name, good, 0o666) }, os.WriteFile(name, bad, 0o666)
}

// damageFiles cuts, empties or deletes each file of the newest checkpoint.
func damageFiles(ctx context.Context, l *lab) (result, error) {
	d, err := l.runToDamage(ctx)
	if err != nil {
		return result{}, err
	}
	files, err := d.files()
	if err != nil {
		return result{}, err
	}
	tried, worst := 0, time.Duration(0)
	for _, file := range files {
		name := filepath.Join(d.newestDir(), file)
		for what, damage := range map[string]func() error{
			"deleted": func() error { return os.Remove(name) },
			"emptied": func() error { return os.Truncate(name, 0) },
			"cut": func() error {
				info, err := os.Stat(name)
				if err != nil {
					return err
				}
				return os.Truncate(name, info.Size()*2/3)
			},
		} {
			if err := damage(); err != nil {
				return result{}, err
			}
			took, err := d.recovers(ctx, file)
			if err != nil {
				return result{}, fmt.Errorf("%s %s: %w", file, what, err)
			}
			tried, worst = tried+1, max(worst, took)
		}
	}
	return result{fmt.Sprintf("%d of %d named, slowest fallback %.2f s, every end bit-identical", tried, tried, worst.Seconds()), worst <= 5*time.Second}, nil
}
