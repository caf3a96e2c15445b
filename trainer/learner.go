package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	"jambalaya/data"
	"jambalaya/internal/engine"
	"jambalaya/internal/human"
	"jambalaya/model"
	"jambalaya/model/op"
	"jambalaya/parallel"
	"jambalaya/trainer/optim"
)

// learner takes optimiser steps, together with those of the other ranks: it owns the
// weights, the plan of a micro-batch and the plan of the update. It knows nothing of
// files.
type learner struct {
	cfg     Config
	team    *team
	shard   *shard
	backend engine.Backend
	weights *model.Weights
	graph   *model.TrainingGraph
	plan    *engine.Plan
	grads   *gradients
	// exchange computes the experts that ranks share out; nil where each has all.
	exchange  *model.Exchange
	exchanger *exchanger
	update    *model.Update
	squares   squares
	state     optim.State

	micro     int        // micro-batches of a step
	sequences data.Batch // of all of them
	zeros     []float32  // as large as the gradient; nil without accumulation
	readings  readings
}

// StepResult is what one optimiser step says of itself.
type StepResult struct {
	Loss     float64 // CELoss + coefficient * AuxLoss: what is minimised
	CELoss   float64 // mean -log p over the targets, nats
	AuxLoss  float64 // mean load-balancing loss; top-k at perfect balance
	GradNorm float64 // before clipping
	LR       float64
	Verdict  optim.Verdict // why nothing changed, if so
	Tokens   int           // tokens read by all ranks
	// Load is the share of assignments by MoE layer and expert: 1/E at balance.
	Load [][]float64
	// Drops are the assignments beyond the capacity of their expert, by MoE layer; empty
	// without one.
	Drops []float64
}

// newLearner makes the plans for the weights that a shard describes.
func newLearner(be engine.Backend, w *model.Weights, cfg Config, t *team, s *shard) (*learner, error) {
	recompute, err := engine.ParseRecompute(cfg.Trainer.Recompute)
	if err != nil {
		return nil, err
	}
	micro, rows := cfg.Trainer.share(t.size())
	l := &learner{cfg: cfg, team: t, shard: s, backend: be, weights: w, micro: micro}
	l.graph, err = model.NewTrainingGraph(cfg.Model, rows, cfg.Data.SequenceLength,
		model.GraphOptions{Accumulate: cfg.Trainer.accumulates(), Experts: s.layout.Shared()})
	if err != nil {
		return nil, err
	}
	g := l.graph
	l.exchange, l.exchanger = newExchange(be, cfg, t)
	l.plan, err = engine.NewPlan(g.Program, be, engine.Options{Compute: w.Compute(), Recompute: recompute, Exchange: kernels(l.exchange),
		Bind: w.BindCompute(g.Params, g.Grads, g.Sums)})
	if err != nil {
		l.close()
		return nil, err
	}
	l.readings = newReadings(g, l.plan, micro)
	if cfg.Trainer.accumulates() {
		l.zeros = make([]float32, w.Grad.Size())
	}
	if l.grads, err = newGradients(be, w, s, g, l.plan, t.bucket(cfg.Parallel)<<20/4, max(1, cfg.Trainer.treeParts(t.size()))); err != nil {
		l.close()
		return nil, err
	}
	o := cfg.Optim
	l.squares = newSquares(s, cfg.Trainer.Parts > 0)
	l.update, err = model.NewUpdate(be, w, op.AdamWConfig{Beta1: o.Betas[0], Beta2: o.Betas[1], Eps: o.Eps,
		WeightDecay: o.WeightDecay, Clip: o.ClipNorm}, model.DecayByKind, l.squares.of)
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// step takes optimiser step number step, which counts from 1 to steps: it reads the
// rank's part of a global batch from next, computes the gradient, and applies the
// update unless the loss or the gradient says otherwise. If the context of any rank
// has ended, none takes the step and all return errAsked.
func (l *learner) step(ctx context.Context, step, steps int64, next func(*data.Batch) error) (StepResult, error) {
	r, err := l.attempt(ctx, step, steps, next)
	if err != nil && !errors.Is(err, errAsked) {
		err = fmt.Errorf("step %d: %w", step, err)
	}
	return r, err
}

// errAsked is returned by a step that was not taken as a rank was asked to stop.
var errAsked = errors.New("asked to stop")

func (l *learner) attempt(ctx context.Context, step, steps int64, next func(*data.Batch) error) (StepResult, error) {
	targets, err := l.read(ctx, step, next)
	if err != nil {
		return StepResult{}, err
	}
	ctx = context.WithoutCancel(ctx) // whoever stopped inside would leave the others waiting
	if l.zeros != nil {
		if err := l.backend.Write(l.weights.Grad, l.zeros); err != nil {
			return StepResult{}, err
		}
	}
	if err := l.backward(ctx, step, targets); err != nil {
		return StepResult{}, err
	}
	sumsq, err := l.norm(ctx, step)
	if err != nil {
		return StepResult{}, err
	}
	r := l.result(targets)
	r.LR, r.GradNorm = l.cfg.Optim.Rate(step, steps), math.Sqrt(sumsq)
	verdict := l.state.Judge(r.Loss, l.cfg.Trainer.SpikeThreshold)
	b1, b2 := l.cfg.Optim.Corrections(l.state.Applied + 1)
	if err := l.update.Apply(model.Hyper{LR: r.LR, Bias1: b1, Bias2: b2, Skip: verdict != optim.Applied}, sumsq); err != nil {
		return r, err
	}
	if l.shard.zero1 {
		if err := gatherWeights(ctx, l.backend, l.weights, l.shard, step); err != nil {
			return r, err
		}
	}
	r.Verdict = l.state.Record(verdict, r.Loss, r.GradNorm)
	return r, nil
}

// backward computes the gradient of the step and adds it up over the ranks.
func (l *learner) backward(ctx context.Context, step int64, targets int) (err error) {
	l.exchanger.at(ctx, step)
	defer func() {
		if err != nil {
			l.grads.abandon(err)
		}
	}()
	for i := range l.micro {
		if i == l.micro-1 {
			l.grads.begin(ctx, step)
		}
		if err := l.gradient(i, targets); err != nil {
			return err
		}
		if err := l.grads.add(i); err != nil {
			return err
		}
	}
	l.readings.total()
	return l.grads.wait()
}

// norm returns the sum of squares of the gradient of all ranks, and adds the readings
// up on the way: what is not finite on one rank is so on all.
func (l *learner) norm(ctx context.Context, step int64) (float64, error) {
	var mine []float32
	if len(l.squares.of) > 0 { // there may be more ranks than tensors
		var err error
		if mine, err = l.update.Norm(); err != nil {
			return 0, err
		}
	}
	sums := append(l.readings.sums, l.squares.place(mine)...)
	if err := l.team.sum(ctx, parallel.Op{Step: step, Name: "norm"}, sums); err != nil {
		return 0, err
	}
	sumsq := 0.0
	for _, x := range sums[copy(l.readings.sums, sums):] {
		sumsq += x
	}
	return sumsq, nil
}

// read gets the micro-batches of a step and returns the number of targets in those of
// all ranks. It is where ranks agree to stop.
func (l *learner) read(ctx context.Context, step int64, next func(*data.Batch) error) (targets int, err error) {
	said := []float64{0, 0} // targets, and whether to stop
	switch err := next(&l.sequences); {
	case ctx.Err() != nil:
		said[1] = 1
	case err != nil:
		return 0, err
	default:
		said[0] = float64(countTargets(l.sequences.Targets))
	}
	if err := l.team.sum(context.WithoutCancel(ctx), parallel.Op{Step: step, Name: "targets"}, said); err != nil {
		return 0, err
	}
	if said[1] > 0 {
		return 0, errAsked
	}
	return int(said[0]), nil
}

func countTargets(targets []int32) int {
	n := 0
	for _, t := range targets {
		if t >= 0 {
			n++
		}
	}
	return n
}

// gradient runs a micro-batch. Its gradient is divided by the targets and the
// rows of the whole global batch, so that micro-batches add up.
func (l *learner) gradient(i, targets int) error {
	g, b := l.graph, l.sequences.Part(i, l.micro)
	if l.exchange != nil {
		l.exchange.Begin(i)
	}
	err := writeInputs(l.backend, l.plan, []input{
		{g.Tokens, b.Inputs}, {g.Targets, b.Targets}, {g.Docs, b.Docs},
		{g.SeedLoss, []float32{float32(1 / float64(max(1, targets)))}},
		{g.SeedAux, []float32{float32(l.cfg.Model.RouterAuxLossCoef / l.auxShare())}},
	})
	if err != nil {
		return err
	}
	if err := l.plan.Run(); err != nil {
		return err
	}
	return l.readings.read(l.backend, i)
}

// auxShare is what the sum of the micro-batches' load-balancing losses has to be
// divided by: sequences in the sequence scope; in the batch scope, whose means are those
// of what is computed together, micro-batches and ranks.
func (l *learner) auxShare() float64 {
	n := l.micro * l.team.size()
	if l.cfg.Model.RouterAuxScope != model.AuxBatch {
		n *= l.graph.Batch
	}
	return float64(n)
}

func (l *learner) result(targets int) StepResult {
	r := StepResult{Tokens: l.cfg.Trainer.perStep() * l.graph.Length}
	r.CELoss = l.readings.loss() / float64(max(1, targets))
	r.AuxLoss = l.readings.aux() / l.auxShare()
	r.Loss = r.CELoss + l.cfg.Model.RouterAuxLossCoef*r.AuxLoss
	r.Load = l.readings.shares(l.cfg.Model.NumExperts)
	r.Drops = slices.Clone(l.readings.drops())
	return r
}

// memory says in a line what a step needs.
func (l *learner) memory() string {
	u := l.plan.Usage()
	return fmt.Sprintf("%s of activations planned (%s without reuse), %s of weights and optimiser",
		human.Bytes(u.Arena), human.Bytes(u.Sum), human.Bytes(l.weights.Bytes()+l.grads.bytes()))
}

func (l *learner) close() {
	if l.plan != nil {
		l.plan.Close()
	}
	if l.exchange != nil {
		l.exchange.Close()
	}
	if l.grads != nil {
		l.grads.close()
	}
	if l.update != nil {
		l.update.Close()
	}
}
