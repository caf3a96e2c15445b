package model

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// Update is the plan of one optimiser step over all weights: the norm of the
// gradient, then AdamW with clipping, group by group. It needs no answer from
// the host: a step whose norm is not finite changes nothing.
type Update struct {
	plan         *engine.Plan
	backend      engine.Backend
	hyper, sumsq *engine.Tensor
	hyperHost    []float32
	sumsqHost    []float32
	// The same slices as the backend takes them: converted once, as a conversion
	// in every step would allocate.
	hyperAny, sumsqAny any
}

// Hyper is what differs from one update to the next.
type Hyper struct {
	LR float64
	// Bias1 and Bias2 are 1 - beta^t with t counted from 1.
	Bias1, Bias2 float64
	// Skip leaves weights and moments as they are.
	Skip bool
}

// DecayByKind is the usual choice of what weight decay applies to: not norms,
// biases, A_log and D.
func DecayByKind(p Param) bool { return !p.NoDecay }

// NewUpdate builds the plan of an optimiser over the weights.
func NewUpdate(be engine.Backend, w *Weights, c op.AdamWConfig, decays func(Param) bool) (*Update, error) {
	b := op.NewBuilder()
	n := w.Value.Size()
	grad, hyper := b.Input("grad", n), b.Input("hyper", 4)
	sumsq := b.SumSquares(grad)
	bind := map[string]*engine.Tensor{"grad": w.Grad}
	outs := append(b.Graph().AllNodes()[:0:0], sumsq)
	for i, part := range w.spans(decays) {
		cfg := c
		if !part.decays {
			cfg.WeightDecay = 0
		}
		in := b.Graph().AllNodes()[:0:0]
		var narrow *G.Node
		if w.Narrow != nil && part.from < w.Narrow.Size() {
			if part.to > w.Narrow.Size() {
				return nil, fmt.Errorf("model: optimiser: with weights in %v, decay has to be by kind of parameter", w.Narrow.DType)
			}
			name := fmt.Sprintf("narrow.%d", i)
			narrow = b.Input(name, part.to-part.from)
			bind[name] = sub(w.Narrow, part.from, part.to-part.from)
		}
		for _, t := range []struct {
			name string
			flat *engine.Tensor
		}{{"p", w.Value}, {"m", w.M}, {"v", w.V}} {
			name := fmt.Sprintf("%s.%d", t.name, i)
			in = append(in, b.Input(name, part.to-part.from))
			bind[name] = sub(t.flat, part.from, part.to-part.from)
		}
		outs = append(outs, b.AdamW(in[0], in[1], in[2], b.Slice(grad, part.from, part.to-part.from), sumsq, hyper, narrow, cfg)...)
	}
	prog, err := engine.Lower(b.Graph(), outs...)
	if err != nil {
		return nil, fmt.Errorf("model: optimiser: %w", err)
	}
	bound := map[engine.ValueID]*engine.Tensor{}
	for name, t := range bind {
		v, _ := prog.Value(b.Lookup(name))
		bound[v] = t
	}
	plan, err := engine.NewPlan(prog, be, engine.Options{Bind: bound})
	if err != nil {
		return nil, fmt.Errorf("model: optimiser: %w", err)
	}
	hyperID, _ := prog.Value(hyper)
	u := &Update{plan: plan, backend: be, hyper: plan.Tensor(hyperID), sumsq: plan.Tensor(prog.Outputs[0]),
		hyperHost: make([]float32, 4), sumsqHost: make([]float32, 1)}
	u.hyperAny, u.sumsqAny = u.hyperHost, u.sumsqHost
	return u, nil
}

// Run starts one optimiser step.
func (u *Update) Run(h Hyper) error {
	apply := float32(1)
	if h.Skip {
		apply = 0
	}
	u.hyperHost[0], u.hyperHost[1], u.hyperHost[2], u.hyperHost[3] = float32(h.LR), float32(h.Bias1), float32(h.Bias2), apply
	if err := u.backend.Write(u.hyper, u.hyperAny); err != nil {
		return err
	}
	return u.plan.Run()
}

// SumSquares reads the sum of squares of the last step's gradient.
func (u *Update) SumSquares() (float64, error) {
	if err := u.backend.Read(u.sumsqAny, u.sumsq); err != nil {
		return 0, err
	}
	return float64(u.sumsqHost[0]), nil
}

// Plan is the plan that Run executes, for profiles.
func (u *Update) Plan() *engine.Plan { return u.plan }

// Close frees the plan.
func (u *Update) Close() { u.plan.Close() }
