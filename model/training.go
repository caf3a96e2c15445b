package model

import (
	"errors"
	"fmt"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// TrainingGraph is the loss of one micro-batch and its gradient, lowered.
//
// The loss is sum over targets of -log p, divided by nothing: the division by the
// number of targets of the global batch, and the coefficient of the
// load-balancing loss, enter as the seeds of the gradient, so that micro-batches
// and ranks add up to the same gradient however the batch is cut.
type TrainingGraph struct {
	Config        Config
	Batch, Length int
	Program       *engine.Program

	Params []engine.ValueID // in the order of Config.Params
	Grads  []engine.ValueID // of the same
	Sums   []engine.ValueID // running sums that Grads update; nil without accumulation

	Tokens, Targets, Docs engine.ValueID // [B,L] int32
	SeedLoss, SeedAux     engine.ValueID // [1]

	Loss   engine.ValueID   // [1] sum over the valid targets
	NLL    engine.ValueID   // [T] -log p of each target, 0 where there is none
	Aux    engine.ValueID   // [1], -1 without experts: see op.RouterAux
	Load   engine.ValueID   // [MoE layers, E] assignments, -1 without experts
	Drops  []engine.ValueID // [B,E] assignments dropped, by MoE layer; nil without a capacity
	Logits engine.ValueID   // [T,V], -1 unless asked for
	Hidden []engine.ValueID // [T,H], nil unless asked for
}

// GraphOptions ask for more than the loss and its gradient.
type GraphOptions struct {
	// Accumulate makes gradients add to what their memory holds.
	Accumulate bool
	// ForwardOnly leaves out the gradient and the capacity of experts: evaluation.
	ForwardOnly bool
	// Inspect makes hidden states and logits outputs.
	Inspect bool
	// Experts are those held here, if other ranks hold the others: then the plan needs
	// the kernels of an Exchange.
	Experts ExpertRange
}

// NewTrainingGraph builds, differentiates and lowers the model for micro-batches
// of batch rows of length tokens.
func NewTrainingGraph(cfg Config, batch, length int, opt GraphOptions) (g *TrainingGraph, err error) {
	for salt := range 4 {
		if g, err = newTrainingGraph(cfg, batch, length, opt, salt); !errors.Is(err, engine.ErrHash) {
			break
		}
	}
	return g, err
}

func newTrainingGraph(cfg Config, batch, length int, opt GraphOptions, salt int) (*TrainingGraph, error) {
	s := newStack(cfg, batch, length, opt.Experts)
	s.Salt(salt)
	if cfg.ExpertCapacityFactor > 0 && !opt.ForwardOnly {
		s.capacity = op.Capacity(cfg.ExpertCapacityFactor, length, cfg.NumExpertsPerTok, cfg.NumExperts)
	}
	tokens := s.Ints("tokens", batch, length)
	targets := s.Ints("targets", batch, length)
	logits := s.logits(s.forward(tokens))
	loss, nll := s.CrossEntropy(logits, targets)

	b := &graphBuilder{stack: s, outs: []*G.Node{loss}, seeds: []*G.Node{s.Input("seed_loss", 1)}}
	outputs := []*G.Node{loss, nll}
	var aux, load *G.Node
	if len(s.probs) > 0 {
		scope := op.AuxSequence
		if cfg.RouterAuxScope == AuxBatch {
			scope = op.AuxBatch
		}
		aux, load = s.RouterAux(s.probs, s.index, s.docs, scope)
		b.outs, b.seeds = append(b.outs, aux), append(b.seeds, s.Input("seed_aux", 1))
		outputs = append(append(outputs, aux, load), s.drops...)
	}
	if opt.Inspect {
		outputs = append(append(outputs, logits), s.hidden...)
	}
	if !opt.ForwardOnly {
		grads, err := b.gradients(opt.Accumulate)
		if err != nil {
			return nil, err
		}
		outputs = append(outputs, grads...)
	}
	prog, err := engine.Lower(s.Graph(), outputs...)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	g := &TrainingGraph{Config: cfg, Batch: batch, Length: length, Program: prog}
	id := func(n *G.Node) engine.ValueID {
		if n == nil {
			return -1
		}
		v, ok := prog.Value(n)
		if !ok {
			return -1
		}
		return v
	}
	g.Tokens, g.Targets, g.Docs = id(tokens), id(targets), id(s.docs)
	g.Loss, g.NLL, g.Aux, g.Load = id(loss), id(nll), id(aux), id(load)
	for _, d := range s.drops {
		g.Drops = append(g.Drops, id(d))
	}
	g.SeedLoss, g.SeedAux = id(s.Lookup("seed_loss")), id(s.Lookup("seed_aux"))
	g.Logits = -1
	if opt.Inspect {
		g.Logits = id(logits)
		for _, h := range s.hidden {
			g.Hidden = append(g.Hidden, id(h))
		}
	}
	for _, seed := range []engine.ValueID{g.SeedLoss, g.SeedAux} {
		if seed >= 0 {
			prog.Values[seed].Class = engine.F32
		}
	}
	for _, p := range cfg.Params() {
		g.Params = append(g.Params, id(s.params[p.Name]))
	}
	for i := range b.grads {
		g.Grads = append(g.Grads, id(b.grads[i]))
		if opt.Accumulate {
			g.Sums = append(g.Sums, id(b.sums[i]))
		}
	}
	return g, nil
}

// graphBuilder adds the gradient to a stack.
type graphBuilder struct {
	*stack
	outs, seeds []*G.Node
	grads, sums []*G.Node
}

// gradients differentiates with respect to every parameter.
func (b *graphBuilder) gradients(accumulate bool) ([]*G.Node, error) {
	var wrt []*G.Node
	for _, p := range b.cfg.Params() {
		wrt = append(wrt, b.params[p.Name])
	}
	grads, err := b.Gradients(b.outs, b.seeds, wrt)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	for i, g := range grads {
		if accumulate {
			sum := b.Input(fmt.Sprintf("sum.%s", wrt[i].Name()), wrt[i].Shape()...)
			b.sums = append(b.sums, sum)
			g = b.Accumulate(sum, g)
		}
		b.grads = append(b.grads, g)
	}
	return b.grads, nil
}
