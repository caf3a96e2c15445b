package chaos

import (
	"context"
	"fmt"
	"path/filepath"
	"syscall"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/internal/prng"
)

// singleRows interrupt one worker.
var singleRows = []row{
	{1, "kill -9 at random points", "all resume, bit-identical end", killAtRandom},
	{20, "SIGTERM and SIGUSR1", "checkpoint, exit 75 within 10 s, all", stopAtRandom},
}

// longestLife of a process that is to be killed; it is past its start after a quarter.
const longestLife = 600 * time.Millisecond

// killAtRandom kills a process of a run some random time after its start, and starts
// it again, until the run is complete and its end can be compared; then another run,
// until the number of kills is reached.
func killAtRandom(ctx context.Context, l *lab) (result, error) {
	want, err := l.reference(ctx)
	if err != nil {
		return result{}, err
	}
	chance := l.chance()
	kills, resumes, runs := 0, 0, 0
	figure := func() string {
		return fmt.Sprintf("%d kills in %d runs, %d resumed from the newest checkpoint, the others had none", kills, runs, resumes)
	}
	for kills < l.reps(20, 200) {
		runs++
		dir, err := l.place(fmt.Sprintf("run%03d", runs))
		if err != nil {
			return result{}, err
		}
		for {
			before, err := newestStep(ctx, dir)
			if err != nil {
				return result{figure: figure()}, err
			}
			p, killed, err := l.live(ctx, chance, dir)
			if err != nil {
				return result{figure: figure()}, err
			}
			if got := p.resumed(); got != before && (got >= 0 || !killed) {
				return result{figure: figure()}, fmt.Errorf("went on from step %d, the newest checkpoint was of step %d", got, before)
			} else if got >= 0 {
				resumes++
			}
			if !killed {
				break
			}
			kills++
		}
		got, err := outcomeOf(ctx, dir)
		if err != nil {
			return result{figure: figure()}, err
		}
		if d := got.differs(want); d != "" {
			return result{figure: figure()}, fmt.Errorf("%s: %s", dir, d)
		}
	}
	return result{figure: figure() + "; every end bit-identical", met: true}, nil
}

// reference runs the tiny model to its end without a fault.
func (l *lab) reference(ctx context.Context, more ...string) (outcome, error) {
	l.count++
	dir, err := l.place(fmt.Sprintf("reference%d", l.count))
	if err != nil {
		return outcome{}, err
	}
	if _, err := l.complete(ctx, cli.CodeOK, l.arguments(dir, more...)...); err != nil {
		return outcome{}, fmt.Errorf("reference run: %w", err)
	}
	return outcomeOf(ctx, dir)
}

// live starts the run and kills it after a random time, unless it completes first.
func (l *lab) live(ctx context.Context, chance *prng.Rand, dir string) (p *process, killed bool, err error) {
	p, err = l.start(ctx, l.train, l.arguments(dir)...)
	if err != nil {
		return nil, false, err
	}
	select {
	case <-p.done:
	case <-time.After(time.Duration(chance.Float64() * float64(longestLife))):
		if err := p.kill(); err != nil {
			return nil, false, err
		}
	}
	switch code := p.code(); {
	case code == cli.CodeOK:
		return p, false, nil
	case code == -1:
		return p, true, ctx.Err()
	default:
		return nil, false, fmt.Errorf("exit code %d: %s", code, p.lastLine())
	}
}

// grace is how long a process may take to save and end; Kubernetes allows 30 s, Slurm
// as a rule as long.
const grace = 10 * time.Second

// stopAtRandom asks a process to stop at a random step, checks its checkpoint, and
// compares the resumed run's end.
func stopAtRandom(ctx context.Context, l *lab) (result, error) {
	want, err := l.reference(ctx)
	if err != nil {
		return result{}, err
	}
	chance := l.chance()
	stops, worst, run := 0, time.Duration(0), 0
	figure := func() string { return fmt.Sprintf("%d stopped and resumed, slowest %.2f s", stops, worst.Seconds()) }
	for stops < l.reps(10, 50) {
		run++
		dir, err := l.place(fmt.Sprintf("run%03d", run))
		if err != nil {
			return result{}, err
		}
		for done := false; !done; {
			var took time.Duration
			if took, done, err = l.stopOnce(ctx, chance, dir, []syscall.Signal{syscall.SIGTERM, syscall.SIGUSR1}[stops%2]); err != nil {
				return result{figure: figure()}, err
			}
			if !done {
				stops++
				worst = max(worst, took)
			}
		}
		got, err := outcomeOf(ctx, dir)
		if err != nil {
			return result{figure: figure()}, err
		}
		if d := got.differs(want); d != "" {
			return result{figure: figure()}, fmt.Errorf("%s: %s", filepath.Base(dir), d)
		}
	}
	return result{figure: figure() + "; every end bit-identical", met: worst <= grace}, nil
}

// stopOnce starts the run and signals it after a random time, once it trains. It is
// done if the run completed first.
func (l *lab) stopOnce(ctx context.Context, chance *prng.Rand, dir string, s syscall.Signal) (took time.Duration, done bool, err error) {
	p, err := l.start(ctx, l.train, l.arguments(dir)...)
	if err != nil {
		return 0, false, err
	}
	if err := p.await(ctx, "memory:"); err != nil {
		return 0, false, err
	}
	select {
	case <-p.done:
	case <-time.After(time.Duration(chance.Float64() * float64(longestLife))):
	}
	start := time.Now()
	if err := p.signal(s); err != nil {
		return 0, false, err
	}
	switch code := p.code(); code {
	case cli.CodeOK:
		return 0, true, nil
	case cli.CodeInterrupted:
		step, err := newestStep(ctx, dir)
		early, _ := p.out.has("interrupted; run it again") // before it trained
		if has, _ := p.out.has(fmt.Sprintf("step %d of", step)); err == nil && step > 0 && !has && !early {
			err = fmt.Errorf("the newest checkpoint is of step %d, but the run says: %s", step, p.lastLine())
		}
		return p.end.Sub(start), false, err
	default:
		return 0, false, fmt.Errorf("%v: %s: %s", s, p.cmd.ProcessState, p.lastLine())
	}
}
