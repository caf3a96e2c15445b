package model

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// expertGraph computes the rows of a round: those of other ranks for the experts that
// are held here, in the order of the experts.
type expertGraph struct {
	*planBuilder
	layer                *expertLayer
	xs, gateUp, down, ys *G.Node
}

func newExpertGraph(l *expertLayer) *expertGraph {
	b := &expertGraph{planBuilder: newPlanBuilder(), layer: l}
	b.xs = b.input("xs", l.given[0].there)
	b.gateUp, b.down = b.input("gate_up", l.gateUp), b.input("down", l.down)
	offsets := b.Ints("offsets", l.gateUp.Dim(0)+1)
	b.bind[offsets] = l.local
	routing := op.Routing{Offsets: offsets}
	gu := b.GroupedMatMul(b.xs, b.gateUp, routing)
	b.ys = b.GroupedMatMul(b.SwiGLU(gu), b.down, routing)
	return b
}

// gradients returns those of the rows and of the weights. With sums the latter are added
// to what their memory holds.
func (b *expertGraph) gradients(sums bool, memory []*engine.Tensor) ([]*G.Node, error) {
	dys := b.input("dys", b.layer.given[1].there)
	grads, err := b.Gradients([]*G.Node{b.ys}, []*G.Node{dys}, []*G.Node{b.xs, b.gateUp, b.down})
	if err != nil || !sums {
		return grads, err
	}
	for i, m := range memory {
		grads[1+i] = b.Accumulate(b.input(fmt.Sprintf("sum.%d", i), m), grads[1+i])
	}
	return grads, nil
}

// plan lays the graph out in memory that all layers share.
func (b *expertGraph) plan(outs []*G.Node, places []*engine.Tensor) (*engine.Plan, error) {
	for i, n := range outs {
		b.output(n, places[i])
	}
	e := b.layer.Exchange
	b.options = engine.Options{Compute: b.layer.xs.DType}
	trial, err := b.planBuilder.plan(e.backend) // what it takes
	if err != nil {
		return nil, err
	}
	bytes := trial.Usage().Arena
	trial.Close()
	if e.arena == nil || e.arena.Bytes() < bytes {
		if e.arena, err = e.alloc(engine.Float32, int(bytes/4)); err != nil {
			return nil, err
		}
	}
	b.options.Arena = e.arena
	p, err := b.planBuilder.plan(e.backend)
	if err == nil {
		e.plans = append(e.plans, p)
	}
	return p, err
}

func (e *Exchange) alloc(dtype engine.DType, shape ...int) (*engine.Tensor, error) {
	t := &engine.Tensor{Shape: shape, DType: dtype}
	var err error
	if t.Mem, err = e.backend.Alloc(t.Bytes()); err != nil {
		return nil, err
	}
	e.memory = append(e.memory, t.Mem)
	return t, nil
}

// buffer is device memory for a use, the same for all layers.
func (e *Exchange) buffer(use string, dtype engine.DType, shape ...int) (*engine.Tensor, error) {
	key := fmt.Sprint(use, dtype, shape)
	if t := e.buffers[key]; t != nil {
		return t, nil
	}
	t, err := e.alloc(dtype, shape...)
	if err == nil {
		e.buffers[key] = t
	}
	return t, err
}

// plant makes the trees of the weights' gradients, which each round leaves in memory.
func (l *expertLayer) plant(memory []*engine.Tensor) error {
	tree := func(t *engine.Tensor, n int) (*TreeSum, error) {
		s, err := NewTreeSum(l.backend, t, n)
		if err == nil {
			l.trees = append(l.trees, s)
		}
		return s, err
	}
	l.senders = make([][]*TreeSum, l.ranks.Size())
	for _, t := range memory {
		for round := range l.senders {
			s, err := tree(t, l.parts)
			if err != nil {
				return err
			}
			l.senders[round] = append(l.senders[round], s)
		}
		s, err := tree(t, l.ranks.Size())
		if err != nil {
			return err
		}
		l.across = append(l.across, s)
	}
	return nil
}

// addPart computes a round, which is a sender's part, and adds the weights' gradients to
// those of its other parts; in the last part, that sum to those of the senders before.
func (l *expertLayer) addPart(round int) error {
	if err := l.first.Run(); err != nil {
		return err
	}
	for i, s := range l.senders[round] {
		if err := s.Add(l.part); err != nil {
			return err
		}
		if l.part == l.parts-1 {
			if err := l.across[i].Add(round); err != nil {
				return err
			}
		}
	}
	return nil
}
