package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/trainer"
	"jambalaya/trainer/report"
)

// auditRows look at the samples that a run reads.
var auditRows = []row{
	{17, "audit of samples under kills", "each index exactly once", auditKills},
	{18, "resume on 4, 2, 8, 4 workers", "same samples, losses within 1e-5", elastic},
	{19, "kills with a mean of 60 s between", "effective training time at least 90%", effective},
}

// committed checks the audits of a run: in its committed history, step s has the samples
// from s·B on, each of them once. A step that several generations took counts for the
// last of them.
func committed(run string, steps, batch int64) (taken int, err error) {
	type claim struct {
		generation uint64
		rows       map[int64]int // samples, counted
	}
	history := map[int64]*claim{}
	for rank := 0; ; rank++ {
		text, err := os.ReadFile(filepath.Join(run, trainer.AuditFile(rank)))
		if err != nil && rank > 0 {
			break
		}
		if err != nil {
			return 0, err
		}
		// Of a rank's lines about a step in a generation, the last one counts: a lone
		// worker that died before it published anything has the same number again.
		last := map[int64]trainer.Audited{}
		for text := range bytes.Lines(text) {
			var a trainer.Audited
			if json.Unmarshal(text, &a) != nil {
				continue // cut by a kill
			}
			last[a.Step] = a
			taken++
		}
		for step, a := range last {
			c := history[step]
			if c == nil || c.generation < a.Generation {
				c = &claim{a.Generation, map[int64]int{}}
				history[step] = c
			}
			if c.generation == a.Generation {
				for i := range int64(a.Rows) {
					c.rows[a.First+i]++
				}
			}
		}
	}
	for step := int64(1); step <= steps; step++ {
		c := history[step]
		if c == nil {
			return taken, fmt.Errorf("nobody read the samples of step %d", step)
		}
		for k := (step - 1) * batch; k < step*batch; k++ {
			if c.rows[k] != 1 {
				return taken, fmt.Errorf("step %d read sample %d %d times", step, k, c.rows[k])
			}
		}
		if int64(len(c.rows)) != batch {
			return taken, fmt.Errorf("step %d read %d samples, not %d", step, len(c.rows), batch)
		}
	}
	return taken, nil
}

// crewBatch is the batch of the model that crews train.
const crewBatch = 24

// auditKills kills workers of a long run and then looks at what was read.
func auditKills(ctx context.Context, l *lab) (result, error) {
	steps, kills := int64(l.reps(1500, 10_000)), l.reps(3, 20)
	c, err := l.startCrew(ctx, "run", 4, set(fmt.Sprintf("trainer.steps=%d", steps), "trainer.eval_every=100000", "trainer.audit=true")...)
	if err != nil {
		return result{}, err
	}
	defer c.stopAll()
	chance := l.chance()
	killed := 0
	for killed < kills {
		// Spread over the steps, each at a random one of its share.
		at := int64((float64(killed) + chance.Float64()) * float64(steps) / float64(kills+1))
		if _, err := c.untilWithin(ctx, 10*time.Minute, fmt.Sprintf("step %d", at), func() (bool, error) {
			line, ok := c.last()
			return ok && line.Step >= at, nil
		}); err != nil {
			return result{}, err
		}
		moment, before, err := c.strike(chance.IntN(c.size), syscall.SIGKILL)
		if err != nil {
			return result{}, err
		}
		if _, err := c.trains(ctx, moment, before); err != nil {
			return result{}, err
		}
		killed++
	}
	if code := c.code(); code != cli.CodeOK {
		return result{}, fmt.Errorf("exit code %d: %s", code, c.lastLine())
	}
	taken, err := committed(c.dir, steps, crewBatch)
	if err != nil {
		return result{}, err
	}
	again := taken - int(steps)*c.size
	return result{fmt.Sprintf("%d steps of 4 workers, %d kills: %d samples once each in committed history (%d of %d batches were read again)",
		steps, killed, steps*crewBatch, again, taken), true}, c.numbersGrow()
}

// elastic stops a run and lets other numbers of workers go on.
func elastic(ctx context.Context, l *lab) (result, error) {
	steps := set("trainer.steps=200", "trainer.eval_every=100000", "trainer.audit=true", "checkpoint.every=50", "optim.lr=1e-4", "model.num_experts_per_tok=4")
	l.count++
	whole, err := l.startCrew(ctx, "whole", 4, steps...)
	if err != nil {
		return result{}, err
	}
	if code := whole.code(); code != cli.CodeOK {
		return result{}, fmt.Errorf("reference run: exit code %d: %s", code, whole.lastLine())
	}
	dir, err := l.place("elastic")
	if err != nil {
		return result{}, err
	}
	for i, size := range []int{4, 2, 8, 4} {
		c, err := l.resumeCrew(ctx, dir, size, steps...)
		if err != nil {
			return result{}, err
		}
		if i < 3 {
			at := int64(50 * (i + 1))
			if _, err := c.until(ctx, fmt.Sprintf("step %d", at), func() (bool, error) {
				line, ok := c.last()
				return ok && line.Step >= at, nil
			}); err != nil {
				return result{}, fmt.Errorf("%d workers: %w", size, err)
			}
			if err := c.stopAll(); err != nil {
				return result{}, err
			}
		}
		if code := c.code(); code != cli.CodeOK && (i == 3 || code != cli.CodeInterrupted) {
			return result{}, fmt.Errorf("%d workers: exit code %d: %s", size, code, c.lastLine())
		}
	}
	if _, err := committed(dir, 200, crewBatch); err != nil {
		return result{}, err
	}
	worst, err := farthest(whole.dir, dir)
	return result{"every sample once; losses differ by " + strconv.FormatFloat(worst, 'e', 1, 64) + " at most", worst <= 1e-5}, err
}

// farthest compares the losses of two runs, step by step.
func farthest(a, b string) (float64, error) {
	x, err := report.ReadMetrics(filepath.Join(a, "metrics.jsonl"))
	if err != nil {
		return 0, err
	}
	y, err := report.ReadMetrics(filepath.Join(b, "metrics.jsonl"))
	if err != nil {
		return 0, err
	}
	if len(x) != len(y) {
		return 0, fmt.Errorf("%d lines of metrics, not %d", len(y), len(x))
	}
	worst := 0.0
	for i := range x {
		if x[i].Train == nil {
			continue
		}
		if y[i].Train == nil || x[i].Step != y[i].Step {
			return 0, fmt.Errorf("line %d is of another step", i+1)
		}
		worst = max(worst, math.Abs(float64(x[i].CELoss-y[i].CELoss))/float64(x[i].CELoss))
	}
	return worst, nil
}

// effective kills a random worker at random times and compares the steps that count
// with those that as much undisturbed time would have given.
func effective(ctx context.Context, l *lab) (result, error) {
	c, err := l.trainingCrew(ctx, "run", 4, append(endless, set("checkpoint.every=100")...)...)
	if err != nil {
		return result{}, err
	}
	defer c.stopAll()
	mean, total := time.Duration(l.reps(20, 60))*time.Second, time.Duration(l.reps(60, 60*60))*time.Second
	chance := l.chance()
	start := l.awake.now()
	lost, kills := time.Duration(0), 0
	for {
		next := time.Duration(-math.Log(1-chance.Float64()) * float64(mean))
		if left := total - (l.awake.now() - start); next > left {
			if err := l.awake.pause(ctx, left); err != nil {
				return result{}, err
			}
			break
		}
		if err := l.awake.pause(ctx, next); err != nil {
			return result{}, err
		}
		outage, err := c.outage(ctx, chance.IntN(c.size))
		if err != nil {
			return result{}, err
		}
		kills, lost = kills+1, lost+outage
	}
	share := 1 - lost.Seconds()/(l.awake.now()-start).Seconds()
	return result{fmt.Sprintf("%.1f%% of %v, %d kills", 100*share, total, kills), share >= 0.9 && kills > 0}, c.numbersGrow()
}

// outage kills a worker and returns the time until the run is as far as it was.
func (c *crew) outage(ctx context.Context, victim int) (time.Duration, error) {
	before, ok := c.last()
	if !ok {
		return 0, errors.New("no line of metrics")
	}
	began := c.l.awake.now()
	at, err := c.send(victim, syscall.SIGKILL)
	if err != nil {
		return 0, err
	}
	_, err = c.until(ctx, "it does not come as far again", func() (bool, error) {
		line, ok := c.last()
		return ok && line.Step > before.Step && clock(line) > seconds(at)+0.05, nil
	})
	return c.l.awake.now() - began, err
}
