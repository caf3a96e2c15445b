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
	b := newGraphBuilder(cfg, batch, length, opt, salt)
	if !opt.ForwardOnly {
		if err := b.differentiate(); err != nil {
			return nil, err
		}
	}
	prog, err := engine.Lower(b.Graph(), b.outputs()...)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return b.lowered(prog), nil
}

// graphBuilder adds the loss, and its gradient, to a stack.
type graphBuilder struct {
	*stack
	opt                          GraphOptions
	tokens, targets              *G.Node
	logits, loss, nll            *G.Node
	aux, load, seedLoss, seedAux *G.Node   // all but seedLoss nil without experts
	grads, sums                  []*G.Node // of each parameter; nil unless asked for
}

func newGraphBuilder(cfg Config, batch, length int, opt GraphOptions, salt int) *graphBuilder {
	b := &graphBuilder{stack: newStack(cfg, batch, length, opt.Experts), opt: opt}
	b.Salt(salt)
	if cfg.ExpertCapacityFactor > 0 && !opt.ForwardOnly {
		b.capacity = op.Capacity(cfg.ExpertCapacityFactor, length, cfg.NumExpertsPerTok, cfg.NumExperts)
	}
	b.tokens = b.Ints("tokens", batch, length)
	b.targets = b.Ints("targets", batch, length)
	b.logits = b.stack.logits(b.forward(b.tokens))
	b.loss, b.nll = b.CrossEntropy(b.logits, b.targets)
	b.seedLoss = b.Input("seed_loss", 1)
	if len(b.probs) > 0 {
		scope := op.AuxSequence
		if cfg.RouterAuxScope == AuxBatch {
			scope = op.AuxBatch
		}
		b.aux, b.load = b.RouterAux(b.probs, b.index, b.docs, scope)
		b.seedAux = b.Input("seed_aux", 1)
	}
	return b
}

// differentiate adds the gradient with respect to every parameter, and the running
// sums where they accumulate.
func (b *graphBuilder) differentiate() error {
	outs, seeds := []*G.Node{b.loss}, []*G.Node{b.seedLoss}
	if b.aux != nil {
		outs, seeds = append(outs, b.aux), append(seeds, b.seedAux)
	}
	var wrt []*G.Node
	for _, p := range b.cfg.Params() {
		wrt = append(wrt, b.params[p.Name])
	}
	grads, err := b.Gradients(outs, seeds, wrt)
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	for i, g := range grads {
		if b.opt.Accumulate {
			sum := b.Input("sum."+wrt[i].Name(), wrt[i].Shape()...)
			b.sums = append(b.sums, sum)
			g = b.Accumulate(sum, g)
		}
		b.grads = append(b.grads, g)
	}
	return nil
}

// outputs are the nodes that the program has to compute.
func (b *graphBuilder) outputs() []*G.Node {
	nodes := []*G.Node{b.loss, b.nll}
	if b.aux != nil {
		nodes = append(append(nodes, b.aux, b.load), b.drops...)
	}
	if b.opt.Inspect {
		nodes = append(append(nodes, b.logits), b.hidden...)
	}
	return append(nodes, b.grads...)
}

// lowered says where in the program the values of the graph are. Seeds stay in
// fp32, however activations are stored.
func (b *graphBuilder) lowered(prog *engine.Program) *TrainingGraph {
	id := func(n *G.Node) engine.ValueID {
		if n == nil {
			return -1
		}
		if v, ok := prog.Value(n); ok {
			return v
		}
		return -1
	}
	ids := func(nodes []*G.Node) []engine.ValueID {
		var list []engine.ValueID
		for _, n := range nodes {
			list = append(list, id(n))
		}
		return list
	}
	g := &TrainingGraph{
		Config: b.cfg, Batch: b.batch, Length: b.length, Program: prog,
		Grads: ids(b.grads), Sums: ids(b.sums),
		Tokens: id(b.tokens), Targets: id(b.targets), Docs: id(b.docs),
		SeedLoss: id(b.seedLoss), SeedAux: id(b.seedAux),
		Loss: id(b.loss), NLL: id(b.nll), Aux: id(b.aux), Load: id(b.load), Drops: ids(b.drops),
		Logits: -1,
	}
	for _, p := range b.cfg.Params() {
		g.Params = append(g.Params, id(b.params[p.Name]))
	}
	if b.opt.Inspect {
		g.Logits, g.Hidden = id(b.logits), ids(b.hidden)
	}
	for _, seed := range []engine.ValueID{g.SeedLoss, g.SeedAux} {
		if seed >= 0 {
			prog.Values[seed].Class = engine.F32
		}
	}
	return g
}
