package trainer

import (
	"fmt"
	"math"

	"jambalaya/data"
	"jambalaya/internal/engine"
	"jambalaya/internal/human"
	"jambalaya/model"
	"jambalaya/model/op"
	"jambalaya/trainer/optim"
)

// learner takes optimiser steps: it owns the weights, the plan of a micro-batch
// and the plan of the update. It knows nothing of files and clocks.
type learner struct {
	cfg     Config
	backend engine.Backend
	weights *model.Weights
	graph   *model.TrainingGraph
	plan    *engine.Plan
	update  *model.Update
	state   optim.State

	batches  []data.Batch // the micro-batches of a step
	zeros    []float32    // as large as the gradient; nil without accumulation
	readings readings
}

// StepResult is what one optimiser step says of itself.
type StepResult struct {
	Loss     float64 // CELoss + coefficient * AuxLoss: what is minimised
	CELoss   float64 // mean -log p over the targets, nats
	AuxLoss  float64 // mean load-balancing loss; top-k at perfect balance
	GradNorm float64 // before clipping
	LR       float64
	Verdict  optim.Verdict // why nothing changed, if so
	Tokens   int           // tokens read
	// Load is the share of assignments by MoE layer and expert: 1/E at balance.
	Load [][]float64
}

func newLearner(be engine.Backend, w *model.Weights, cfg Config) (*learner, error) {
	recompute, err := engine.ParseRecompute(cfg.Trainer.Recompute)
	if err != nil {
		return nil, err
	}
	l := &learner{cfg: cfg, backend: be, weights: w, batches: make([]data.Batch, cfg.Trainer.Accumulation)}
	l.graph, err = model.NewTrainingGraph(cfg.Model, cfg.Trainer.BatchSize, cfg.Data.SequenceLength,
		model.GraphOptions{Accumulate: l.accumulates()})
	if err != nil {
		return nil, err
	}
	g := l.graph
	l.plan, err = engine.NewPlan(g.Program, be, engine.Options{Recompute: recompute, Bind: w.Bind(g.Params, g.Grads, g.Sums)})
	if err != nil {
		return nil, err
	}
	l.readings = newReadings(g, l.plan)
	if l.accumulates() {
		l.zeros = make([]float32, w.Grad.Size())
	}
	o := cfg.Optim
	l.update, err = model.NewUpdate(be, w, op.AdamWConfig{Beta1: o.Betas[0], Beta2: o.Betas[1], Eps: o.Eps,
		WeightDecay: o.WeightDecay, Clip: o.ClipNorm}, model.DecayByKind)
	if err != nil {
		l.plan.Close()
		return nil, err
	}
	return l, nil
}

func (l *learner) accumulates() bool { return l.cfg.Trainer.Accumulation > 1 }

// step takes optimiser step number step, which counts from 1 to steps: it reads a
// global batch from next, computes its gradient, and applies the update unless
// the loss or the gradient says otherwise.
func (l *learner) step(step, steps int64, next func(*data.Batch) error) (StepResult, error) {
	targets := 0
	for i := range l.batches {
		if err := next(&l.batches[i]); err != nil {
			return StepResult{}, err
		}
		targets += countTargets(l.batches[i].Targets)
	}
	if l.accumulates() {
		if err := l.backend.Write(l.weights.Grad, l.zeros); err != nil {
			return StepResult{}, err
		}
	}
	l.readings.clear()
	for i := range l.batches {
		if err := l.gradient(&l.batches[i], targets); err != nil {
			return StepResult{}, fmt.Errorf("step %d: %w", step, err)
		}
	}
	r := l.result(targets)
	r.LR = l.cfg.Optim.Rate(step, steps)
	verdict := l.state.Judge(r.Loss, l.cfg.Trainer.SpikeThreshold)
	b1, b2 := l.cfg.Optim.Corrections(l.state.Applied + 1)
	if err := l.update.Run(model.Hyper{LR: r.LR, Bias1: b1, Bias2: b2, Skip: verdict != optim.Applied}); err != nil {
		return r, fmt.Errorf("step %d: %w", step, err)
	}
	sumsq, err := l.update.SumSquares()
	if err != nil {
		return r, fmt.Errorf("step %d: %w", step, err)
	}
	r.GradNorm = math.Sqrt(sumsq)
	r.Verdict = l.state.Record(verdict, r.Loss, r.GradNorm)
	return r, nil
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

// gradient runs one micro-batch. Its gradient is divided by the targets and the
// rows of the whole global batch, so that micro-batches add up.
func (l *learner) gradient(b *data.Batch, targets int) error {
	g := l.graph
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
	return l.readings.add(l.backend)
}

// auxShare is what the sum of the micro-batches' load-balancing losses has to be
// divided by: sequences in the sequence scope, micro-batches in the batch scope.
func (l *learner) auxShare() float64 {
	if l.cfg.Model.RouterAuxScope == model.AuxBatch {
		return float64(len(l.batches))
	}
	return float64(len(l.batches) * l.graph.Batch)
}

func (l *learner) result(targets int) StepResult {
	r := StepResult{Tokens: len(l.batches) * l.graph.Batch * l.graph.Length}
	r.CELoss = l.readings.loss / float64(max(1, targets))
	r.AuxLoss = l.readings.aux / l.auxShare()
	r.Loss = r.CELoss + l.cfg.Model.RouterAuxLossCoef*r.AuxLoss
	r.Load = l.readings.shares(l.cfg.Model.NumExperts)
	return r
}

// memory says in a line what a step needs.
func (l *learner) memory() string {
	u := l.plan.Usage()
	return fmt.Sprintf("%s of activations planned (%s without reuse), %s of weights and optimiser",
		human.Bytes(u.Arena), human.Bytes(u.Sum), human.Bytes(4*l.weights.Value.Bytes()))
}

func (l *learner) close() {
	l.plan.Close()
	l.update.Close()
}
