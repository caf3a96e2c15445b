package model

import (
	"fmt"
	"runtime"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// Weights are a model's parameters on a backend, with their gradients, each in one
// flat buffer of the same layout, and the moments of the optimiser: of all of them, or
// of the parts that this rank keeps.
type Weights struct {
	*Layout

	Value  *engine.Tensor // all weights, fp32
	Narrow *engine.Tensor // in bf16, those that products read, and others among them; nil in fp32
	Grad   *engine.Tensor // nil for a model that only runs forward

	// States are the parts of the flat buffers whose moments are kept here. M and V
	// hold those of one part after the other.
	States []Span
	M, V   *engine.Tensor // first and second moment; nil without gradients

	backend engine.Backend
}

// Precision is what a model computes in, and how its gradients are stored.
type Precision struct {
	Compute, Grad engine.DType
}

// NewWeights allocates the weights of a whole model, all zero. A model that trains
// has gradients and moments too. All is fp32.
func NewWeights(be engine.Backend, cfg Config, trains bool) (*Weights, error) {
	return NewMixedWeights(be, cfg, trains, Precision{})
}

// NewMixedWeights is NewWeights for a model that may compute in bf16: weights and
// moments stay fp32, and products read a copy of the weights.
func NewMixedWeights(be engine.Backend, cfg Config, trains bool, p Precision) (*Weights, error) {
	layout := NewLayout(cfg, ExpertRange{})
	return newWeights(be, layout, []Span{layout.All()}, trains, p)
}

// NewShardedWeights allocates the weights of a model that trains, as laid out for a
// rank, which keeps the moments of some parts. A part is made of whole parameters.
func NewShardedWeights(be engine.Backend, layout *Layout, states []Span, p Precision) (*Weights, error) {
	return newWeights(be, layout, states, true, p)
}

func newWeights(be engine.Backend, layout *Layout, states []Span, trains bool, p Precision) (*Weights, error) {
	w := &Weights{Layout: layout, backend: be}
	if trains {
		w.States = MergeSpans(states)
	}
	narrow, kept := 0, 0
	if p.Compute != engine.Float32 {
		narrow = layout.Regions[2].From // the regions with all that narrows
	}
	for _, s := range w.States {
		kept += s.Len()
	}
	for _, t := range []struct {
		at    **engine.Tensor
		size  int
		dtype engine.DType
		here  bool
	}{{&w.Value, layout.Size, engine.Float32, true}, {&w.Narrow, narrow, p.Compute, narrow > 0}, {&w.Grad, layout.Size, p.Grad, trains},
		{&w.M, kept, engine.Float32, trains}, {&w.V, kept, engine.Float32, trains}} {
		if !t.here {
			continue
		}
		tensor := &engine.Tensor{Shape: []int{t.size}, DType: t.dtype}
		var err error
		if tensor.Mem, err = be.Alloc(tensor.Bytes()); err != nil {
			return nil, fmt.Errorf("model: weights of %d parameters: %w", layout.Config.Counts().Total, err)
		}
		*t.at = tensor
	}
	return w, nil
}

// Param returns parameter i's part of Value or Grad.
func (w *Weights) Param(flat *engine.Tensor, i int) *engine.Tensor {
	return sub(flat, w.offsets[i], w.Params[i].Shape...)
}

// Moments returns the moments of parameter i, if they are kept here.
func (w *Weights) Moments(i int) (m, v *engine.Tensor, kept bool) {
	at, ok := w.stateOffset(w.At(i))
	if !ok {
		return nil, nil, false
	}
	return sub(w.M, at, w.Params[i].Shape...), sub(w.V, at, w.Params[i].Shape...), true
}

// stateOffset is where the moments of a span lie in M and V.
func (w *Weights) stateOffset(s Span) (int, bool) {
	at := 0
	for _, state := range w.States {
		if s.From >= state.From && s.To <= state.To {
			return at + s.From - state.From, true
		}
		at += state.Len()
	}
	return 0, false
}

// Bytes is the memory of all buffers.
func (w *Weights) Bytes() int64 {
	n := int64(0)
	for _, t := range []*engine.Tensor{w.Value, w.Narrow, w.Grad, w.M, w.V} {
		if t != nil {
			n += t.Bytes()
		}
	}
	return n
}

// Part is a span of Value, Narrow or Grad.
func (w *Weights) Part(flat *engine.Tensor, s Span) *engine.Tensor { return sub(flat, s.From, s.Len()) }

// sub is a part of a flat buffer, starting at an element.
func sub(flat *engine.Tensor, offset int, shape ...int) *engine.Tensor {
	return &engine.Tensor{Shape: shape, DType: flat.DType, Mem: flat.Mem, Off: flat.Off + int64(offset)*flat.DType.Bytes()}
}

// Refresh makes the copy for products follow weights that have been written.
func (w *Weights) Refresh() error {
	if w.Narrow == nil {
		return nil
	}
	b := op.NewBuilder()
	n := w.Narrow.Size()
	from, to := b.Input("value", n), b.Input("narrow", n)
	prog, err := engine.Lower(b.Graph(), b.Narrow(from, to))
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	bind := map[engine.ValueID]*engine.Tensor{}
	for node, t := range map[*G.Node]*engine.Tensor{from: sub(w.Value, 0, n), to: w.Narrow} {
		v, _ := prog.Value(node)
		bind[v] = t
	}
	plan, err := engine.NewPlan(prog, w.backend, engine.Options{Bind: bind})
	if err != nil {
		return fmt.Errorf("model: %w", err)
	}
	defer plan.Close()
	return plan.Run()
}

// Init draws the initial weights and clears the moments. What a rank draws does not
// depend on how the model is shared out.
func (w *Weights) Init(seed uint64) error {
	for _, t := range []*engine.Tensor{w.M, w.V} {
		if t == nil {
			continue
		}
		if err := w.backend.Write(t, make([]float32, t.Size())); err != nil {
			return err
		}
	}
	if err := w.draw(seed); err != nil {
		return err
	}
	return w.Refresh()
}

// draw draws the parameters on all processors, and writes them in order.
func (w *Weights) draw(seed uint64) error {
	drawn := make(chan chan []float32, runtime.GOMAXPROCS(0)) // as many at a time as it holds
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		for _, p := range w.Params {
			one := make(chan []float32, 1)
			select {
			case drawn <- one:
			case <-stop:
				return
			}
			go func() {
				one <- w.drawn(p, seed)
			}()
		}
	}()
	for i := range w.Params {
		if err := w.backend.Write(w.Param(w.Value, i), <-<-drawn); err != nil {
			return err
		}
	}
	return nil
}

// drawn is the initial value of what is held of a parameter.
func (w *Weights) drawn(p Param, seed uint64) []float32 {
	x := make([]float32, p.Size())
	if p.Expert {
		w.Config.InitExperts(p, seed, w.Experts.Lo, x)
	} else {
		w.Config.InitParam(p, seed, x)
	}
	return x
}

// BindCompute is Bind for a plan that computes in the precision of the weights:
// products read the copy.
func (w *Weights) BindCompute(params, grads, sums []engine.ValueID) map[engine.ValueID]*engine.Tensor {
	b := w.Bind(params, grads, sums)
	for i, v := range params {
		if w.Narrow != nil && w.Params[i].Kind.narrows() {
			b[v] = w.Param(w.Narrow, i)
		}
	}
	return b
}

// Compute is the type that plans over the weights compute in.
func (w *Weights) Compute() engine.DType {
	if w.Narrow == nil {
		return engine.Float32
	}
	return w.Narrow.DType
}

// Bind places a graph's parameters, and its gradients if it has them, in the
// flat buffers.
func (w *Weights) Bind(params, grads, sums []engine.ValueID) map[engine.ValueID]*engine.Tensor {
	b := map[engine.ValueID]*engine.Tensor{}
	for i, v := range params {
		b[v] = w.Param(w.Value, i)
	}
	for i, v := range grads {
		b[v] = w.Param(w.Grad, i)
	}
	for i, v := range sums {
		b[v] = w.Param(w.Grad, i)
	}
	return b
}
