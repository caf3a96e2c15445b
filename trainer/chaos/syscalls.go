package chaos

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"jambalaya/internal/cli"
)

// threeSaves makes the tiny run short: three checkpoints, of which the last stays.
var threeSaves = set("trainer.steps=60", "checkpoint.keep=1")

// traceRun runs the tiny model under the tracer.
func (l *lab) traceRun(dir string, decide func(saveCall) act) (code int, text string, err error) {
	log := filepath.Join(dir, "output.txt")
	code, err = traced(l.dir, log, l.train, l.arguments(dir, threeSaves...), decide)
	if err != nil {
		return code, "", err
	}
	said, err := os.ReadFile(log)
	return code, string(said), err
}

// killAtSaveCalls kills a run before each system call by which it changes its
// checkpoints, and then lets it go on.
func killAtSaveCalls(ctx context.Context, l *lab) (result, error) {
	want, err := l.reference(ctx, threeSaves...)
	if err != nil {
		return result{}, err
	}
	calls, err := l.countSaveCalls()
	if err != nil {
		return result{}, err
	}
	points := 0
	figure := func() string { return fmt.Sprintf("killed before %d of %d save system calls", points, calls) }
	for n := 0; n < calls; n += l.reps(11, 1) {
		dir, err := l.place(fmt.Sprintf("call%03d", n))
		if err != nil {
			return result{}, err
		}
		code, text, err := l.traceRun(dir, func(c saveCall) act {
			if c.n == n {
				return killBefore
			}
			return pass
		})
		if err != nil {
			return result{}, err
		}
		if code != -1 {
			return result{figure: figure()}, fmt.Errorf("call %d: exit code %d: %s", n, code, text)
		}
		points++
		if err := l.goesOn(ctx, dir, want); err != nil {
			return result{figure: figure()}, fmt.Errorf("call %d: %w", n, err)
		}
	}
	return result{figure: figure() + "; the newest manifest verifies, every end bit-identical", met: true}, ctx.Err()
}

// goesOn checks that what a run left verifies, and that it ends like the reference.
func (l *lab) goesOn(ctx context.Context, dir string, want outcome) error {
	before, err := newestStep(ctx, dir)
	if err != nil {
		return err
	}
	p, err := l.complete(ctx, cli.CodeOK, l.arguments(dir, threeSaves...)...)
	if err != nil {
		return err
	}
	if got := p.resumed(); got != before {
		return fmt.Errorf("went on from step %d, the newest checkpoint was of step %d", got, before)
	}
	got, err := outcomeOf(ctx, dir)
	if err != nil {
		return err
	}
	if d := got.differs(want); d != "" {
		return fmt.Errorf("%s", d)
	}
	return nil
}

// countSaveCalls lets a run be.
func (l *lab) countSaveCalls() (int, error) {
	dir, err := l.place("count")
	if err != nil {
		return 0, err
	}
	calls := 0
	code, text, err := l.traceRun(dir, func(c saveCall) act {
		calls = c.n + 1
		return pass
	})
	if err == nil && (code != 0 || calls < 50) {
		err = fmt.Errorf("traced run: exit code %d, %d save system calls: %s", code, calls, text)
	}
	return calls, err
}

// failSaveCalls makes each system call of the second of three saves fail with EIO in
// turn. The run has to say so, go on, and end with the same weights.
func (l *lab) failSaveCalls(ctx context.Context) (tried int, err error) {
	want, err := l.reference(ctx, threeSaves...)
	if err != nil {
		return 0, err
	}
	for n := 0; ; n += l.reps(7, 1) {
		dir, err := l.place(fmt.Sprintf("eio%03d", n))
		if err != nil {
			return tried, err
		}
		seen := 0
		code, text, err := l.traceRun(dir, func(c saveCall) act {
			if !strings.Contains(c.path, ".tmp-step-00000040-g") {
				return pass
			}
			if seen++; seen == n+1 {
				return failWithEIO
			}
			return pass
		})
		if err != nil || seen <= n {
			return tried, err
		}
		tried++
		if code != 0 || !strings.Contains(text, "checkpoint of step 40 failed") {
			return tried, fmt.Errorf("EIO at call %d of the save: exit code %d: %s", n, code, text)
		}
		got, err := outcomeOf(ctx, dir)
		if err != nil {
			return tried, err
		}
		if d := got.differs(want); d != "" {
			return tried, fmt.Errorf("EIO at call %d of the save: %s", n, d)
		}
	}
}
