package cpu

import "jambalaya/internal/engine"

// args hands out the memory of one call. Kernels go through the same code twice: to size their scratch memory,
// while tensors have none yet and every slice is nil, and to bind.
type args struct {
	*engine.Call
	sizing bool
	next   int // input that in returns next
	used   int // scratch elements taken
}

// sized makes a kernel of a function that takes its memory from args and returns what a step calls.
func sized(bind func(b *Backend, a *args) func() error) kernel {
	return kernel{
		scratch: func(b *Backend, c *engine.Call) int {
			a := args{Call: c, sizing: true}
			bind(b, &a)
			return a.used
		},
		bind: func(b *Backend, c *engine.Call) func() error { return bind(b, &args{Call: c}) },
	}
}

// scratchLine is the alignment of scratch memory, in elements.
const scratchLine = 16

// scratch takes n elements of scratch memory.
func (a *args) scratch(n int) []float32 {
	at := a.used
	a.used += blocks(n, scratchLine) * scratchLine
	if a.sizing {
		return nil
	}
	return F32(a.Scratch)[at : at+n : at+n]
}

// perWorker takes n elements of scratch memory for each worker.
func (a *args) perWorker(b *Backend, n int) [][]float32 {
	parts := make([][]float32, b.pool.Workers())
	for i := range parts {
		parts[i] = a.scratch(n)
	}
	return parts
}

// tensor is the next input.
func (a *args) tensor() *engine.Tensor {
	t := a.In[a.next]
	a.next++
	return t
}

// in is the next input where it is there, nil otherwise.
func (a *args) in(there bool) []float32 {
	if !there {
		return nil
	}
	return a.floats(a.tensor())
}

// ints is the next input.
func (a *args) ints() []int32 {
	if t := a.tensor(); !a.sizing {
		return I32(t)
	}
	return nil
}

func (a *args) floats(t *engine.Tensor) []float32 {
	if a.sizing {
		return nil
	}
	return F32(t)
}

// out is output i, nil where nobody uses it.
func (a *args) out(i int) []float32 {
	if i >= len(a.Out) {
		return nil
	}
	return a.floats(a.Out[i])
}

// outOrScratch is output i, or n elements of scratch memory where nobody uses it.
func (a *args) outOrScratch(i, n int) []float32 {
	if a.Out[i] == nil {
		return a.scratch(n)
	}
	return a.floats(a.Out[i])
}

// outInts is integer output i, or n elements made for it where nobody uses it.
func (a *args) outInts(i, n int) []int32 {
	switch {
	case a.sizing:
		return nil
	case a.Out[i] == nil:
		return make([]int32, n)
	}
	return I32(a.Out[i])
}
