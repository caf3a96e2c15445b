package trainer

import (
	"context"
	"fmt"
	"time"

	"jambalaya/data"
	"jambalaya/internal/engine"
	"jambalaya/internal/prng"
	"jambalaya/model"
	"jambalaya/parallel"
)

// Rehearsal takes the optimiser steps of a configuration on random tokens, with
// nothing around them: no corpus, no run directory. It is what benchmarks time,
// and the steps are those of Run.
type Rehearsal struct {
	weights *model.Weights
	learner *learner
	taken   int64
	next    func(*data.Batch) error
}

// untimedSteps is what a schedule without a number of steps is taken to have left.
const untimedSteps = 10_000

// NewRehearsal makes a model with fresh weights on a device, for one rank of a
// world; nil: alone.
func NewRehearsal(d *Device, cfg Config, world *World) (*Rehearsal, error) {
	team, err := newTeam(cfg, world)
	if err != nil {
		return nil, err
	}
	if err := team.useGPUs(context.Background(), d, cfg.Parallel); err != nil {
		return nil, err
	}
	return rehearse(d, cfg, team)
}

func rehearse(d *Device, cfg Config, team *team) (_ *Rehearsal, err error) {
	defer func() { err = explainMemory(d, cfg, team, err) }()
	shard := newShard(cfg, team)
	w, err := d.newWeights(cfg, shard)
	if err != nil {
		return nil, err
	}
	cfg.Trainer.SpikeThreshold = 0 // the losses of random tokens are all alike: any may seem a spike
	l, err := newLearner(d, w, cfg, team, shard)
	if err != nil {
		return nil, err
	}
	if err := w.Init(cfg.Trainer.Seed); err != nil {
		return nil, err
	}
	rows, length := cfg.Trainer.perStep()/team.size(), cfg.Data.SequenceLength
	random := prng.New(cfg.Trainer.Seed, fmt.Sprintf("rehearsal/%d", team.rank))
	tokens := make([]int32, length+1)
	next := func(b *data.Batch) error {
		if b.Inputs == nil {
			n := rows * length
			b.Inputs, b.Targets, b.Docs = make([]int32, n), make([]int32, n), make([]int32, n)
		}
		for r := range rows {
			for i := range tokens {
				tokens[i] = int32(random.IntN(cfg.Model.VocabSize))
			}
			copy(b.Inputs[r*length:][:length], tokens)
			copy(b.Targets[r*length:][:length], tokens[1:])
		}
		return nil
	}
	return &Rehearsal{weights: w, learner: l, next: next}, nil
}

// Step takes the next optimiser step.
func (r *Rehearsal) Step() (StepResult, error) {
	r.taken++
	steps := int64(r.learner.cfg.Trainer.Steps)
	if steps == 0 { // as many as fit into some minutes: long after any that is rehearsed
		steps = r.taken + untimedSteps
	}
	return r.learner.step(context.Background(), r.taken, steps, r.next)
}

// Weights are those that the steps change.
func (r *Rehearsal) Weights() *model.Weights { return r.weights }

// Reductions says how long gradients were under way to other ranks, and for how much
// of that the backward pass was over.
func (r *Rehearsal) Reductions() parallel.Times { return r.learner.grads.times() }

// Exchanges is how long tokens were under way to the experts of other ranks and back.
func (r *Rehearsal) Exchanges() time.Duration {
	if r.learner.exchanger == nil {
		return 0
	}
	return r.learner.exchanger.busy
}

// Ways says how ranks reach each other: see team.useGPUs.
func (r *Rehearsal) Ways() string { return r.learner.team.ways }

// Tokens is the number of tokens that this rank reads in a step.
func (r *Rehearsal) Tokens() int {
	return r.learner.micro * r.learner.graph.Batch * r.learner.graph.Length
}

// Plans are the plans of a step: the gradient of a micro-batch and those of the update.
func (r *Rehearsal) Plans() []*engine.Plan {
	return append([]*engine.Plan{r.learner.plan}, r.learner.update.Plans()...)
}

// Planned is the device memory of a step in bytes: weights, gradient, moments and
// activations.
func (r *Rehearsal) Planned() int64 {
	n := r.weights.Bytes() + r.learner.grads.bytes()
	for _, p := range r.Plans() {
		u := p.Usage()
		n += u.Arena + u.Inputs
	}
	return n
}

// Close frees the plans.
func (r *Rehearsal) Close() {
	r.learner.close()
	r.learner.team.close()
}
