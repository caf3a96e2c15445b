package model

import (
	"fmt"

	"jambalaya/internal/engine"
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

	Value *engine.Tensor // all weights, fp32
	Grad  *engine.Tensor // nil for a model that only runs forward
	M, V  *engine.Tensor // first and second moment; nil likewise

	backend engine.Backend
	order   []int // parameters as they lie in the flat buffers
	offsets []int // element offset of each parameter
}

// paramAlign keeps every parameter on a cache line and a vector's width.
const paramAlign = 64

// NewWeights allocates the weights of a model, all zero. A model that trains has
// gradients and moments too.
func NewWeights(be engine.Backend, cfg Config, trains bool) (*Weights, error) {
	w := &Weights{Config: cfg, Params: cfg.Params(), backend: be}
	size := w.layout()
	for _, t := range []**engine.Tensor{&w.Value, &w.Grad, &w.M, &w.V} {
		mem, err := be.Alloc(4 * int64(size))
		if err != nil {
			return nil, fmt.Errorf("model: weights of %d parameters: %w", cfg.Counts().Total, err)
		}
		*t = &engine.Tensor{Shape: []int{size}, DType: engine.Float32, Mem: mem}
		if !trains {
			break
		}
	}
	return w, nil
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
	for i, p := range w.Params {
		x := make([]float32, p.Size())
		w.Config.InitParam(p, seed, x)
		if err := w.backend.Write(w.Param(w.Value, i), x); err != nil {
			return err
		}
	}
	return nil
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
