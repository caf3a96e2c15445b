package chaos

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"jambalaya/internal/cli"
)

// crewRows break runs of several workers.
var crewRows = []row{
	{2, "kill -9 is noticed", "p99 at most 1 s", noticed},
	{3, "kill -9 to the next new step", "p50 at most 3 s, p99 at most 8 s", recovered},
	{4, "SIGSTOP, then SIGCONT", "evicted in 3 s, no stale chunk accepted", stoppedWorker},
	{5, "coordinator killed", "no generation twice, recovery in 5 s", killedCoordinator},
	{6, "two coordinators, one lease", "0 dual commits in 1,000 terms", twoCoordinators},
	{10, "kills during recovery, 3 nested", "converges, budget honoured", nestedKills},
	{11, "all restarted at once", "all rejoin within 15 s", massRestart},
}

// endless is a run that lasts as long as it is needed.
var endless = set("trainer.steps=1000000", "trainer.eval_every=1000000")

// kills are the times that kills of single workers took.
type kills struct {
	noticed   []time.Duration // to the end of the generation, if the worker did not coordinate
	succeeded []time.Duration // to the next term of the lease, if it did
	recovered []time.Duration // to the next new step
}

// measureKills kills workers of a crew of four in turn, and measures. The rows on it
// share one measurement.
func (l *lab) measureKills(ctx context.Context) (*kills, error) {
	if l.killed != nil {
		return l.killed, nil
	}
	c, err := l.trainingCrew(ctx, "kills", 4, endless...)
	if err != nil {
		return nil, err
	}
	defer c.stopAll()
	k := &kills{}
	chance := l.chance()
	for i := range l.reps(6, 100) {
		// A worker that dies again within 10 s of its start waits longer and longer, so
		// the turn of each comes late enough; the moment within it is random.
		if err := pause(ctx, 2600*time.Millisecond+time.Duration(chance.Float64()*float64(400*time.Millisecond))); err != nil {
			return nil, err
		}
		if err := k.measure(ctx, c, i%4); err != nil {
			return nil, err
		}
	}
	l.killed = k
	return k, c.numbersGrow()
}

// measure kills one worker. Its times do not count if all processes stood still meanwhile.
func (k *kills) measure(ctx context.Context, c *crew, victim int) error {
	boss, term, err := c.coordinator()
	if err != nil {
		return err
	}
	slept := c.l.awake.slept()
	at, before, err := c.strike(victim, syscall.SIGKILL)
	if err != nil {
		return err
	}
	var seen time.Time
	if victim == boss {
		// Its successor says nothing of the generation before: it takes the lease.
		seen, err = c.until(ctx, "nobody takes the lease", func() (bool, error) {
			_, now, err := c.coordinator()
			return now > term && err == nil, nil
		})
	} else {
		seen, err = c.ends(ctx, at, before)
	}
	if err != nil {
		return err
	}
	trains, err := c.trains(ctx, at, before)
	if err != nil || c.l.awake.slept() != slept {
		return err
	}
	if victim == boss {
		k.succeeded = append(k.succeeded, seen.Sub(at))
	} else {
		k.noticed = append(k.noticed, seen.Sub(at))
	}
	k.recovered = append(k.recovered, trains.Sub(at))
	return nil
}

// pause waits, unless the context ends.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func noticed(ctx context.Context, l *lab) (result, error) {
	k, err := l.measureKills(ctx)
	if err != nil {
		return result{}, err
	}
	p99 := quantile(k.noticed, 0.99)
	return result{fmt.Sprintf("p50 %s, p99 %s of %d kills", secondsOf(quantile(k.noticed, 0.5)), secondsOf(p99), len(k.noticed)) +
		fmt.Sprintf("; the lease of %d killed coordinators passed on after %s at worst", len(k.succeeded), secondsOf(quantile(k.succeeded, 1))), p99 <= time.Second}, nil
}

func recovered(ctx context.Context, l *lab) (result, error) {
	k, err := l.measureKills(ctx)
	if err != nil {
		return result{}, err
	}
	p50, p99 := quantile(k.recovered, 0.5), quantile(k.recovered, 0.99)
	return result{fmt.Sprintf("p50 %s, p99 %s of %d kills", secondsOf(p50), secondsOf(p99), len(k.recovered)), p50 <= 3*time.Second && p99 <= 8*time.Second}, nil
}

// stoppedWorker stops a worker that does not coordinate for a while. The others have to
// give it up; awake, it has to come back as another incarnation, and what it had under
// way to be refused: the end is that of a run that was left alone, bit by bit.
func stoppedWorker(ctx context.Context, l *lab) (result, error) {
	steps := set("trainer.steps=1500", "trainer.eval_every=1500")
	want, err := l.crewReference(ctx, 4, steps...)
	if err != nil {
		return result{}, err
	}
	c, err := l.trainingCrew(ctx, "run", 4, steps...)
	if err != nil {
		return result{}, err
	}
	defer c.stopAll()
	boss, _, err := c.coordinator()
	if err != nil {
		return result{}, err
	}
	victim := (boss + 2) % 4
	at, before, err := c.strike(victim, syscall.SIGSTOP)
	if err != nil {
		return result{}, err
	}
	evicted, err := c.ends(ctx, at, before)
	if err != nil {
		return result{}, err
	}
	asleep := time.Duration(l.reps(6, 30)) * time.Second
	if err := pause(ctx, asleep-time.Since(at)); err != nil {
		return result{}, err
	}
	awake, err := c.send(victim, syscall.SIGCONT)
	if err != nil {
		return result{}, err
	}
	back, err := c.trains(ctx, awake, before)
	if err != nil {
		return result{}, err
	}
	figure := fmt.Sprintf("given up after %s, asleep for %v, training again %s after it woke", secondsOf(evicted.Sub(at)), asleep, secondsOf(back.Sub(awake)))
	if err := c.endsLike(ctx, want); err != nil {
		return result{figure: figure}, err
	}
	return result{figure + ", end bit-identical", evicted.Sub(at) <= 3*time.Second}, nil
}

// killedCoordinator kills whoever holds the lease, again and again.
func killedCoordinator(ctx context.Context, l *lab) (result, error) {
	c, err := l.trainingCrew(ctx, "run", 4, endless...)
	if err != nil {
		return result{}, err
	}
	defer c.stopAll()
	var times []time.Duration
	saved := int64(-1)
	for range l.reps(3, 50) {
		if err := pause(ctx, 2*time.Second); err != nil {
			return result{}, err
		}
		boss, _, err := c.coordinator()
		if err != nil {
			return result{}, err
		}
		slept := l.awake.slept()
		at, before, err := c.strike(boss, syscall.SIGKILL)
		if err != nil {
			return result{}, err
		}
		step, err := newestStep(ctx, c.dir)
		if err != nil {
			return result{}, err
		}
		if step < saved {
			return result{}, fmt.Errorf("the checkpoint of step %d is lost, the newest is %d", saved, step)
		}
		saved = step
		trains, err := c.trains(ctx, at, before)
		if err != nil {
			return result{}, err
		}
		if _, said := c.out.when(at, "coordinates from now on"); !said {
			return result{}, fmt.Errorf("the successor of worker %d does not say that it coordinates", boss)
		}
		if l.awake.slept() == slept {
			times = append(times, trains.Sub(at))
		}
	}
	worst := quantile(times, 1)
	figure := fmt.Sprintf("%d kills, recovery p50 %s, worst %s", len(times), secondsOf(quantile(times, 0.5)), secondsOf(worst))
	if err := c.numbersGrow(); err != nil {
		return result{figure: figure}, err
	}
	return result{figure + "; no generation twice, no checkpoint lost", worst <= 5*time.Second}, nil
}

// nestedKills kills a second and a third worker while the run recovers from the kill
// of the first, and then lets a worker die at each start until the budget is spent.
func nestedKills(ctx context.Context, l *lab) (result, error) {
	steps := set("trainer.steps=1500", "trainer.eval_every=1500")
	want, err := l.crewReference(ctx, 4, steps...)
	if err != nil {
		return result{}, err
	}
	worst := time.Duration(0)
	for i := range l.reps(1, 10) {
		c, err := l.trainingCrew(ctx, fmt.Sprintf("nested%d", i), 4, steps...)
		if err != nil {
			return result{}, err
		}
		first := time.Now()
		for victim := range 3 {
			at, before, err := c.strike((i+victim)%4, syscall.SIGKILL)
			if err != nil {
				return result{}, err
			}
			if victim < 2 { // the next one dies as soon as this one's successor generation is made
				if _, err := c.until(ctx, "no new generation", func() (bool, error) {
					now, err := c.generation()
					return now > before, err
				}); err != nil {
					return result{}, err
				}
				continue
			}
			back, err := c.trains(ctx, at, before)
			if err != nil {
				return result{}, err
			}
			worst = max(worst, back.Sub(first))
		}
		if err := c.endsLike(ctx, want); err != nil {
			return result{}, err
		}
	}
	figure := fmt.Sprintf("%d times 3 nested kills, training again after %s at worst, end bit-identical", l.reps(1, 10), secondsOf(worst))
	spent, err := l.spendBudget(ctx)
	if err != nil {
		return result{figure: figure}, err
	}
	return result{figure + "; " + spent, true}, nil
}

// spendBudget kills a worker each time that it starts.
func (l *lab) spendBudget(ctx context.Context) (string, error) {
	const budget = 2
	c, err := l.startCrew(ctx, "budget", 2, append(endless, set(fmt.Sprintf("parallel.restarts=%d", budget))...)...)
	if err != nil {
		return "", err
	}
	defer c.stopAll()
	killed := map[int]bool{}
	if _, err := c.until(ctx, "the budget is not spent", func() (bool, error) {
		select {
		case <-c.done:
			return true, nil
		default:
		}
		if pid, err := c.pid(1); err == nil && !killed[pid] {
			killed[pid] = true
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		return false, nil
	}); err != nil {
		return "", err
	}
	if c.code() == cli.CodeOK || len(killed) != budget+1 || !strings.Contains(c.out.String(), fmt.Sprintf("has died %d times in a row", budget+1)) {
		return "", fmt.Errorf("a budget of %d restarts: exit code %d after %d starts: %s", budget, c.code(), len(killed), c.lastLine())
	}
	return fmt.Sprintf("a worker that always dies ends the run after %d restarts", budget), nil
}

// massRestart kills all workers at once, and waits until all train again.
func massRestart(ctx context.Context, l *lab) (result, error) {
	var times []time.Duration
	c, err := l.trainingCrew(ctx, "run", 4, endless...)
	if err != nil {
		return result{}, err
	}
	defer c.stopAll()
	for i := range l.reps(2, 20) {
		// Past the time in which a death counts as one in a row with the last.
		if wait := 10500 * time.Millisecond; i > 0 {
			if err := pause(ctx, wait); err != nil {
				return result{}, err
			}
		}
		before, err := c.generation()
		if err != nil {
			return result{}, err
		}
		slept, at := l.awake.slept(), time.Now()
		var errs error
		for rank := range c.size {
			_, err := c.send(rank, syscall.SIGKILL)
			errs = errors.Join(errs, err)
		}
		if errs != nil {
			return result{}, errs
		}
		back, err := c.trains(ctx, at, before)
		if err != nil {
			return result{}, err
		}
		list, err := c.generations()
		if err != nil {
			return result{}, err
		}
		if n := len(list[len(list)-1].Members); n != c.size {
			return result{}, fmt.Errorf("only %d of %d workers came back", n, c.size)
		}
		if l.awake.slept() == slept {
			times = append(times, back.Sub(at))
		}
	}
	worst := quantile(times, 1)
	return result{fmt.Sprintf("%d times, all of 4 train again after %s at worst", len(times), secondsOf(worst)), worst <= 15*time.Second}, c.numbersGrow()
}
