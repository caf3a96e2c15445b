package trainer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"jambalaya/checkpoint"
	"jambalaya/data"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/internal/human"
	"jambalaya/internal/term"
	"jambalaya/parallel"
	"jambalaya/trainer/report"
)

// train takes the steps that are left.
func (r *run) train(ctx context.Context) error {
	steps := int64(r.cfg.Trainer.Steps)
	if r.done >= steps {
		return nil
	}
	var err error
	if r.loader, err = r.openLoader(); err != nil {
		return err
	}
	if r.done == 0 {
		if err := r.validateInitial(ctx); err != nil {
			return r.stopped(ctx, err)
		}
	}
	if w := r.opt.World; r.team.leads() && (w == nil || !w.Silent) {
		r.show = term.NewProgress(r.opt.Stdout, term.Options{Label: "train", Start: r.done, Total: steps})
		defer r.show.Close()
	}
	if err := r.openAudit(); err != nil {
		return err
	}
	var still func(Standstill)
	if w := r.opt.World; w != nil {
		still = w.Still
	}
	r.watchdog = newWatchdog(time.Duration(r.cfg.Trainer.HangSeconds)*time.Second, &r.team.waits, os.Stderr, still)
	defer r.watchdog.close()
	defer context.AfterFunc(ctx, func() { r.printf("stopping after this step; once more stops at once") })()
	for r.done < steps {
		if err := r.oneStep(ctx, steps); err != nil {
			return r.stopped(ctx, err)
		}
	}
	return nil
}

// validateInitial writes line 0: the weights as drawn.
func (r *run) validateInitial(ctx context.Context) error {
	if r.opt.World != nil { // ranks stop together: before the next step
		ctx = context.WithoutCancel(ctx)
	}
	v, err := r.eval.run(ctx, r.watchdog.alive)
	if err != nil {
		return err
	}
	r.printf("start: %s", v)
	if !r.team.leads() {
		return nil
	}
	return r.metrics.Append(report.Line{Validation: v.line(), Timing: report.Now(0)})
}

// oneStep takes a step, with the validation and the checkpoint that are due after
// it. The metrics line of a step is on disk before a checkpoint of it is.
func (r *run) oneStep(ctx context.Context, steps int64) error {
	began := time.Now()
	r.team.waited = 0
	res, err := r.learner.step(ctx, r.done+1, steps, func(b *data.Batch) error {
		if err := r.loader.Next(ctx, b); err != nil {
			return err
		}
		return r.audit.read(r.done+1, b.First, len(b.Inputs)/r.cfg.Data.SequenceLength)
	})
	if err != nil {
		return err
	}
	r.done++
	r.watchdog.alive()
	r.tokens += int64(res.Tokens)
	seconds, waited := time.Since(began).Seconds(), r.team.waited.Seconds()
	rate := float64(res.Tokens) / seconds
	line := report.Line{Step: r.done, Tokens: r.tokens, Train: res.line(), Timing: report.Now(rate)}
	if res.Verdict != "" {
		r.printf("step %d skipped: %s (loss %.4g, gradient norm %.4g); %d skipped so far",
			r.done, res.Verdict, res.Loss, res.GradNorm, r.learner.state.NonFinite+r.learner.state.Spikes)
	}
	if r.done%int64(r.cfg.Trainer.EvalEvery) == 0 || r.done == steps {
		// A stop signal waits for the validation: the line of a step is written once.
		v, err := r.eval.run(context.WithoutCancel(ctx), r.watchdog.alive)
		if err != nil {
			return err
		}
		line.Validation = v.line()
		r.printf("step %d: %s", r.done, v)
	}
	if err := r.sampleIfDue(ctx); err != nil {
		return err
	}
	if r.team.leads() {
		if err := r.metrics.Append(line); err != nil {
			return err
		}
	}
	if r.done%int64(r.cfg.Checkpoint.Every) == 0 || r.done == steps {
		if err := r.save(); err != nil {
			return err
		}
	}
	r.watch(res, seconds, waited)
	if r.show != nil {
		r.show.Set(r.done, fmt.Sprintf("loss %.3f", res.CELoss), human.Count(rate)+" tokens/s")
	}
	return nil
}

// watch passes the step on to whoever looks after this process.
func (r *run) watch(res StepResult, seconds, waited float64) {
	if w := r.opt.World; w != nil && w.Watch != nil {
		saved := int64(-1)
		if r.store != nil {
			saved = r.store.Saved()
		}
		from, link := r.team.slowestLink()
		w.Watch(Progress{Step: r.done, Steps: int64(r.cfg.Trainer.Steps), Saved: saved, Tokens: res.Tokens / r.team.size(),
			Seconds: seconds, Waited: waited, From: from, Link: link.Seconds(), Result: res})
	}
}

// line is the step's part of its metrics line.
func (s StepResult) line() *report.Train {
	t := &report.Train{Loss: report.Number(s.Loss), CELoss: report.Number(s.CELoss), AuxLoss: report.Number(s.AuxLoss),
		GradNorm: report.Number(s.GradNorm), LR: report.Number(s.LR), Skipped: string(s.Verdict)}
	for _, layer := range s.Load {
		row := make([]report.Number, len(layer))
		for e, share := range layer {
			row[e] = report.Number(share)
		}
		t.ExpertLoad = append(t.ExpertLoad, row)
		t.ExpertImbalance = append(t.ExpertImbalance, report.Number(slices.Max(layer)*float64(len(layer))))
	}
	for _, n := range s.Drops {
		t.ExpertDrops = append(t.ExpertDrops, report.Number(n))
	}
	return t
}

// stopped saves a checkpoint if the run was asked to stop, and says so; other
// errors pass.
func (r *run) stopped(ctx context.Context, err error) error {
	if !errors.Is(err, errAsked) && (ctx.Err() == nil || r.opt.World != nil) {
		return err
	}
	if err := r.saveLast(); err != nil {
		return err
	}
	return cli.Interrupted(fmt.Errorf("step %d of %d: %w", r.done, r.cfg.Trainer.Steps, ErrStopped))
}

// saveLast makes sure that the last step is saved, if one was taken.
func (r *run) saveLast() error {
	if r.done == 0 || r.store.Saved() == r.done {
		return nil
	}
	if err := r.store.Wait(); err == nil && r.store.Saved() != r.done {
		if err := r.save(); err != nil {
			return err
		}
	}
	return r.store.Wait()
}

// save starts a checkpoint of the current state.
func (r *run) save() error {
	if r.team.leads() {
		if err := r.metrics.Sync(); err != nil {
			return err
		}
	}
	tensors, err := snapshotTensors(r.device, r.weights, r.shard)
	if err != nil {
		return err
	}
	hash, err := config.Hash(r.cfg.identity())
	if err != nil {
		return err
	}
	extra, err := encodeCounters(counters{Steps: int64(r.cfg.Trainer.Steps), Tokens: r.tokens, Optim: r.learner.state})
	if err != nil {
		return err
	}
	return r.store.Save(&checkpoint.Snapshot{Tensors: tensors, State: checkpoint.State{
		Step: r.done, Seed: r.cfg.Trainer.Seed, Cursor: r.done * int64(r.cfg.Trainer.perStep()),
		ConfigHash: hash, DataHash: r.index.Hash(), TokenizerHash: r.corpus.Tokenizer().Hash(),
		LearningRate: r.cfg.Optim.Rate(r.done, int64(r.cfg.Trainer.Steps)),
		Device:       r.device.Name(), CPUPath: r.device.Path, Trainer: extra,
	}})
}

// saved is told how each save ended.
func (r *run) saved(res checkpoint.Result) {
	switch {
	case parallel.EndsGeneration(res.Err), errors.Is(res.Err, checkpoint.ErrFenced): // which is said elsewhere, and training does not go on
		r.printf("the checkpoint of step %d is left unfinished", res.Step)
	case res.Err != nil:
		r.printf("warning: checkpoint of step %d failed: %v; the one before it stays, training goes on", res.Step, res.Err)
	case res.RetainErr != nil:
		r.printf("warning: older checkpoints could not be removed: %v", res.RetainErr)
	}
}
