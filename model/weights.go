package model

import (
	"fmt"
	"runtime"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// Weights are a model's parameters on a backend, with their gradients and the
// moments of the optimiser, each in one flat buffer of the same layout. The order
// is that in which the backward pass finishes the gradients, in three groups:
// what weight decay applies to, the experts, and what it spares. So whatever
// works on many parameters at once, the optimiser, a reduction between ranks,
// works on a few long ranges.
type Weights struct {
	Config Config
	Params []Param

	Value  *engine.Tensor // all weights, fp32
	Narrow *engine.Tensor // in bf16, those that products read, and others among them; nil in fp32
	Grad   *engine.Tensor // nil for a model that only runs forward
	M, V   *engine.Tensor // first and second moment; nil likewise

	backend engine.Backend
	order   []int // parameters as they lie in the flat buffers
	offsets []int // element offset of each parameter
}

// paramAlign keeps every parameter on a cache line and a vector's width.
const paramAlign = 64

// Precision is what a model computes in, and how its gradients are stored.
type Precision struct {
	Compute, Grad engine.DType
}

// NewWeights allocates the weights of a model, all zero. A model that trains has
// gradients and moments too. All is fp32.
func NewWeights(be engine.Backend, cfg Config, trains bool) (*Weights, error) {
	return NewMixedWeights(be, cfg, trains, Precision{})
}

// NewMixedWeights is NewWeights for a model that may compute in bf16: weights and
// moments stay fp32, and products read a copy of the weights.
func NewMixedWeights(be engine.Backend, cfg Config, trains bool, p Precision) (*Weights, error) {
	w := &Weights{Config: cfg, Params: cfg.Params(), backend: be}
	size := w.layout()
	narrow := 0
	if p.Compute != engine.Float32 {
		narrow = w.spans(func(p Param) bool { return !p.NoDecay })[0].to // the group with all that narrows
	}
	for _, t := range []struct {
		at    **engine.Tensor
		size  int
		dtype engine.DType
		train bool
	}{{&w.Value, size, engine.Float32, false}, {&w.Narrow, narrow, p.Compute, false}, {&w.Grad, size, p.Grad, true},
		{&w.M, size, engine.Float32, true}, {&w.V, size, engine.Float32, true}} {
		if t.size == 0 || t.train && !trains {
			continue
		}
		tensor := &engine.Tensor{Shape: []int{t.size}, DType: t.dtype}
		var err error
		if tensor.Mem, err = be.Alloc(tensor.Bytes()); err != nil {
			return nil, fmt.Errorf("model: weights of %d parameters: %w", cfg.Counts().Total, err)
		}
		*t.at = tensor
	}
	return w, nil
}

// Bytes is the memory of all buffers.
func (w *Weights) Bytes() (n int64) {
	for _, t := range []*engine.Tensor{w.Value, w.Narrow, w.Grad, w.M, w.V} {
		if t != nil {
			n += t.Bytes()
		}
	}
	return n
}

// layout assigns the offsets and returns the size of the flat buffers.
func (w *Weights) layout() int {
	w.offsets = make([]int, len(w.Params))
	at := 0
	for group := 0; group < 3; group++ {
		for i := len(w.Params) - 1; i >= 0; i-- {
			if w.Params[i].group() == group {
				w.order, w.offsets[i] = append(w.order, i), at
				at += w.Params[i].paddedSize()
			}
		}
	}
	return at
}

func (p Param) paddedSize() int { return (p.Size() + paramAlign - 1) / paramAlign * paramAlign }

func (p Param) group() int {
	switch {
	case p.NoDecay:
		return 2
	case p.Expert:
		return 1
	}
	return 0
}

// span is a part of the flat buffers, in elements, that weight decay treats alike.
type span struct {
	from, to int
	decays   bool
}

// spans cuts the flat buffers where decays changes its mind. Padding between
// parameters is zero and stays so.
func (w *Weights) spans(decays func(Param) bool) []span {
	var all []span
	for _, i := range w.order {
		d, end := decays(w.Params[i]), w.offsets[i]+w.Params[i].paddedSize()
		if n := len(all); n > 0 && all[n-1].decays == d {
			all[n-1].to = end
		} else {
			all = append(all, span{from: w.offsets[i], to: end, decays: d})
		}
	}
	return all
}

// Param returns parameter i's part of a flat buffer (Value, Grad, M or V).
func (w *Weights) Param(flat *engine.Tensor, i int) *engine.Tensor {
	return sub(flat, w.offsets[i], w.Params[i].Shape...)
}

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

// Init draws the initial weights and clears the moments.
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
				x := make([]float32, p.Size())
				w.Config.InitParam(p, seed, x)
				one <- x
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
