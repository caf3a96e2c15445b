package model

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// Update is an optimiser step over the weights whose moments are kept here, in two
// plans: the sum of squares of the gradient, then AdamW with clipping. A step whose
// norm is not finite changes nothing.
//
// A rank alone calls Run, which needs no answer from the host. Ranks that share the
// gradient out call Norm, add up what each of them says, and call Apply.
type Update struct {
	backend     engine.Backend
	norm, adamw *engine.Plan
	partial     *engine.Tensor // [parts] sums of squares
	total       *engine.Tensor // [1]; the memory of partial where there is one part
	hyper       *engine.Tensor
	memory      []engine.Memory

	hyperHost, totalHost, partialHost []float32
	// The same slices as the backend takes them: converted once, as a conversion
	// in every step would allocate.
	hyperAny, totalAny, partialAny any
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

// NewUpdate builds the plans of an optimiser over the weights. norm are the parts of
// the gradient whose squares are added up here, each by itself; nil is all of it.
func NewUpdate(be engine.Backend, w *Weights, c op.AdamWConfig, decays func(Param) bool, norm []Span) (*Update, error) {
	if norm == nil {
		norm = []Span{w.All()}
	}
	u := &Update{backend: be, hyperHost: make([]float32, 4), totalHost: make([]float32, 1), partialHost: make([]float32, len(norm))}
	u.hyperAny, u.totalAny, u.partialAny = u.hyperHost, u.totalHost, u.partialHost
	if err := u.build(w, c, decays, norm); err != nil {
		u.Close()
		return nil, fmt.Errorf("model: optimiser: %w", err)
	}
	return u, nil
}

func (u *Update) build(w *Weights, c op.AdamWConfig, decays func(Param) bool, norm []Span) (err error) {
	if u.partial, err = u.alloc(len(norm)); err != nil {
		return err
	}
	if u.hyper, err = u.alloc(4); err != nil {
		return err
	}
	if u.total = u.partial; len(norm) != 1 {
		if u.total, err = u.alloc(1); err != nil {
			return err
		}
	}
	p := newPlanBuilder()
	for i, s := range norm {
		grad := p.input(fmt.Sprintf("grad.%d", i), w.Part(w.Grad, s))
		p.output(p.SumSquares(grad), sub(u.partial, i, 1))
	}
	if u.norm, err = p.plan(u.backend); err != nil {
		return err
	}
	p = newPlanBuilder()
	total, hyper := p.input("sumsq", u.total), p.input("hyper", u.hyper)
	for _, part := range w.decaySpans(decays) {
		for _, state := range w.States {
			if err := p.adamw(w, part, state, total, hyper, c); err != nil {
				return err
			}
		}
	}
	u.adamw, err = p.plan(u.backend)
	return err
}

func (u *Update) alloc(size int) (*engine.Tensor, error) {
	mem, err := u.backend.Alloc(4 * int64(size))
	if err != nil {
		return nil, err
	}
	u.memory = append(u.memory, mem)
	return &engine.Tensor{Shape: []int{size}, DType: engine.Float32, Mem: mem}, nil
}

// planBuilder is a graph whose inputs and outputs all have their place.
type planBuilder struct {
	*op.Builder
	outs    []*G.Node
	bind    map[*G.Node]*engine.Tensor
	options engine.Options
}

func newPlanBuilder() *planBuilder {
	return &planBuilder{Builder: op.NewBuilder(), bind: map[*G.Node]*engine.Tensor{}}
}

func (p *planBuilder) input(name string, t *engine.Tensor) *G.Node {
	n := p.Input(name, t.Shape...)
	p.bind[n] = t
	return n
}

func (p *planBuilder) output(n *G.Node, t *engine.Tensor) {
	p.outs = append(p.outs, n)
	p.bind[n] = t
}

// adamw adds the update of what a part of the buffers and a state have in common.
func (p *planBuilder) adamw(w *Weights, part decaySpan, state Span, total, hyper *G.Node, c op.AdamWConfig) error {
	s := part.And(state)
	if s.Len() == 0 {
		return nil
	}
	if !part.decays {
		c.WeightDecay = 0
	}
	i := len(p.outs)
	var narrow *G.Node
	if w.Narrow != nil && s.From < w.Narrow.Size() {
		if s.To > w.Narrow.Size() {
			return fmt.Errorf("with weights in %v, decay has to be by kind of parameter", w.Narrow.DType)
		}
		narrow = p.input(fmt.Sprintf("narrow.%d", i), w.Part(w.Narrow, s))
	}
	at, _ := w.stateOffset(s)
	in := make([]*G.Node, 4)
	for j, t := range []*engine.Tensor{w.Part(w.Value, s), sub(w.M, at, s.Len()), sub(w.V, at, s.Len()), w.Part(w.Grad, s)} {
		in[j] = p.input(fmt.Sprintf("%c.%d", "pmvg"[j], i), t)
	}
	p.outs = append(p.outs, p.AdamW(in[0], in[1], in[2], in[3], total, hyper, narrow, c)...)
	return nil
}

func (p *planBuilder) plan(be engine.Backend) (*engine.Plan, error) {
	prog, err := engine.Lower(p.Graph(), p.outs...)
	if err != nil {
		return nil, err
	}
	bind := map[engine.ValueID]*engine.Tensor{}
	for n, t := range p.bind {
		if v, ok := prog.Value(n); ok {
			bind[v] = t
		}
	}
	opt := p.options
	opt.Bind = bind
	return engine.NewPlan(prog, be, opt)
}

// Run starts an optimiser step of a rank that has the whole gradient.
func (u *Update) Run(h Hyper) error {
	if err := u.norm.Run(); err != nil {
		return err
	}
	return u.apply(h)
}

// SumSquares reads the sum of squares of this rank's part of the gradient. After Run
// it is that of the step.
func (u *Update) SumSquares() (float64, error) {
	if err := u.backend.Read(u.partialAny, u.partial); err != nil {
		return 0, err
	}
	sum := 0.0
	for _, x := range u.partialHost {
		sum += float64(x)
	}
	return sum, nil
}

// Norm computes and reads the sums of squares of the parts of the gradient. They are valid
// until the next call.
func (u *Update) Norm() ([]float32, error) {
	if err := u.norm.Run(); err != nil {
		return nil, err
	}
	return u.partialHost, u.backend.Read(u.partialAny, u.partial)
}

// Apply starts an optimiser step, given the sum of squares of the gradient of all
// ranks.
func (u *Update) Apply(h Hyper, sumSquares float64) error {
	u.totalHost[0] = float32(sumSquares)
	if err := u.backend.Write(u.total, u.totalAny); err != nil {
		return err
	}
	return u.apply(h)
}

func (u *Update) apply(h Hyper) error {
	apply := float32(1)
	if h.Skip {
		apply = 0
	}
	u.hyperHost[0], u.hyperHost[1], u.hyperHost[2], u.hyperHost[3] = float32(h.LR), float32(h.Bias1), float32(h.Bias2), apply
	if err := u.backend.Write(u.hyper, u.hyperAny); err != nil {
		return err
	}
	return u.adamw.Run()
}

// Plans are the plans of a step, for profiles.
func (u *Update) Plans() []*engine.Plan { return []*engine.Plan{u.norm, u.adamw} }

// Close frees the plans.
func (u *Update) Close() {
	for _, p := range []*engine.Plan{u.norm, u.adamw} {
		if p != nil {
			p.Close()
		}
	}
	for _, m := range u.memory {
		u.backend.Free(m)
	}
}
