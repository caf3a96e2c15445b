package chaos

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"jambalaya/internal/faultproxy"
)

// tenMbit is in bytes a second.
const tenMbit = 10_000_000 / 8

var flagged = regexp.MustCompile(`worker (\d+) is a straggler: its network .* for step (\d+),`)

// throttled narrows all links of one worker of four, each way, and waits until the
// coordinator says who it is; then it widens them again. Nobody may be
// accused in between.
func throttled(ctx context.Context, l *lab) (result, error) {
	f, err := l.startFleet(ctx, "run", append(slices.Concat(endless, larger), set("trainer.batch_size=4", "checkpoint.every=100000", "trainer.eval_every=1000000")...)...)
	if err != nil {
		return result{}, err
	}
	defer f.stopAll()
	chance := l.chance()
	var steps []int64
	var slowest time.Duration
	healed := time.Now()
	for range l.reps(1, 8) {
		if err := pause(ctx, 2*time.Second); err != nil {
			return result{}, err
		}
		if text := f.said(healed, "is a straggler"); text != "" {
			return result{}, fmt.Errorf("nothing is throttled, but: %s", text)
		}
		began := time.Now()
		victim := chance.IntN(f.size)
		f.net.narrow(victim, faultproxy.Fault{Rate: tenMbit})
		before, _ := f.last()
		who, step, err := f.accused(ctx, began)
		if err != nil {
			return result{}, err
		}
		if who != victim {
			return result{}, fmt.Errorf("worker %d is throttled, worker %d is called a straggler", victim, who)
		}
		steps = append(steps, step-before.Step)
		if now, ok := f.last(); ok && now.Step > before.Step {
			slowest = max(slowest, time.Since(began)/time.Duration(now.Step-before.Step))
		}
		healed = time.Now()
		f.net.heal()
		if _, err := f.until(ctx, "it does not keep up again", func() (bool, error) {
			return f.said(healed, fmt.Sprintf("worker %d keeps up again", victim)) != "", f.alive()
		}); err != nil {
			return result{}, err
		}
	}
	figure := fmt.Sprintf("%d times, flagged at the latest %d steps after the last whole one (%.1f s a step)", len(steps), slices.Max(steps), slowest.Seconds())
	if g, err := f.generation(); err != nil || g != 1 {
		return result{figure: figure}, fmt.Errorf("generation 1 became %d, %v", g, err)
	}
	return result{figure + "; nobody else was, and it kept its generation", slices.Max(steps) <= 3}, f.stopAll()
}

// accused waits until a worker is called a straggler, and returns it and the step.
func (f *fleet) accused(ctx context.Context, after time.Time) (worker int, step int64, err error) {
	var m []string
	_, err = f.until(ctx, "nobody is called a straggler", func() (bool, error) {
		m = flagged.FindStringSubmatch(f.said(after, "is a straggler"))
		return m != nil, f.alive()
	})
	if err != nil {
		return 0, 0, err
	}
	worker, _ = strconv.Atoi(m[1]) // digits
	step, err = strconv.ParseInt(m[2], 10, 64)
	return worker, step, err
}

// said is the first line with a text that a machine has printed since a time.
func (f *fleet) said(after time.Time, text string) string {
	for _, p := range f.all {
		p.out.mu.Lock()
		for _, l := range p.out.lines {
			if !l.at.Before(after) && strings.Contains(l.text, text) {
				p.out.mu.Unlock()
				return l.text
			}
		}
		p.out.mu.Unlock()
	}
	return ""
}

// narrow changes all links of a machine.
func (n *network) narrow(victim int, f faultproxy.Fault) {
	for i := range n.machines {
		if i != victim {
			n.flow(i, victim, f)
			n.flow(victim, i, f)
		}
	}
}
