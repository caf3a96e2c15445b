package trainer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"jambalaya/data"
	"jambalaya/parallel"
	"jambalaya/trainer/optim"
)

const (
	timedSteps  = 8
	timedAtMost = 10 * time.Second
	// budgetShare of the minutes is for steps; validation, checkpoints and
	// samples take the rest.
	budgetShare = 0.85
)

// budget turns the minutes into steps, once for a run, and records the
// configuration. It times real steps and then forgets what they changed.
func (r *run) budget(ctx context.Context) error {
	fresh := false
	if r.team.leads() {
		_, recorded, err := r.dir.recorded()
		if err != nil {
			return err
		}
		fresh = !recorded
	}
	timed, err := r.team.leaderSays(ctx, "time steps", fresh && r.cfg.Trainer.Minutes > 0)
	if err != nil {
		return err
	}
	if timed {
		seconds, err := r.timeSteps(ctx)
		if err != nil {
			return err
		}
		r.cfg.Trainer.Steps = r.cfg.Trainer.StepsWithin(seconds)
		r.printf("budget: %g minutes at %.0f ms a step are %d steps", r.cfg.Trainer.Minutes, 1000*seconds, r.cfg.Trainer.Steps)
	}
	if !r.team.leads() {
		return nil
	}
	if fresh {
		if err := errors.Join(r.dir.keepTokenizer(r.corpus.Tokenizer()), r.dir.record(r.cfg)); err != nil {
			return fmt.Errorf("run directory: %w", err)
		}
	}
	return r.openMetrics()
}

// timeSteps returns how long a step takes, with its share of what comes between: the
// same on all ranks.
func (r *run) timeSteps(ctx context.Context) (float64, error) {
	loader, err := r.openLoader()
	if err != nil {
		return 0, err
	}
	defer loader.Close()
	var times []float64
	start := time.Now()
	for {
		more, err := r.team.leaderSays(ctx, "more steps", len(times) < 3 || len(times) <= timedSteps && time.Since(start) < timedAtMost)
		if err != nil {
			return 0, err
		}
		if !more {
			break
		}
		began := time.Now()
		if _, err := r.learner.step(ctx, 1, 1, func(b *data.Batch) error { return loader.Next(ctx, b) }); err != nil {
			return 0, err
		}
		times = append(times, time.Since(began).Seconds())
	}
	times = times[1:] // the first one finds cold caches
	slices.Sort(times)
	r.learner.state = optim.State{}
	all, err := r.team.gather(ctx, parallel.Op{Name: "time of a step"}, []float64{times[len(times)/2] / budgetShare})
	if err != nil {
		return 0, err
	}
	return all[0][0], r.initialise(ctx)
}
