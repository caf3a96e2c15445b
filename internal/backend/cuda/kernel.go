package cuda

import (
	"fmt"

	"jambalaya/internal/engine"
)

// kernel makes the launches of one operator. It runs twice: to size scratch
// memory, when tensors have no memory yet, and to bind. Each file of this
// package registers its own kernels with init.
type kernel func(a *args)

var kernels = map[string]kernel{}

func register(name string, k kernel) {
	if _, ok := kernels[name]; ok {
		panic(fmt.Sprintf("cuda: kernel %q registered twice", name))
	}
	kernels[name] = k
}

// bound is a kernel of one backend.
type bound struct {
	b *Backend
	kernel
}

// Scratch implements engine.Kernel.
func (k bound) Scratch(c *engine.Call) int {
	a := args{Call: c, b: k.b, sizing: true}
	k.kernel(&a)
	return a.used
}

// Bind implements engine.Kernel.
func (k bound) Bind(c *engine.Call) (func() error, error) {
	a := args{Call: c, b: k.b}
	if c.Scratch != nil {
		a.memory = at(c.Scratch)
	}
	k.kernel(&a)
	if a.err != nil {
		return nil, a.err
	}
	if k.b.dry {
		return func() error { return fmt.Errorf("cuda: run on a dry backend: %w", ErrUnavailable) }, nil
	}
	b, starts := k.b, a.starts
	return func() error {
		defer b.enter()()
		for _, start := range starts {
			if err := start(); err != nil {
				return err
			}
		}
		return nil
	}, nil
}

// args are the arguments of a call, its scratch memory, and the launches that a
// step will make.
type args struct {
	*engine.Call
	b      *Backend
	sizing bool
	next   int // input that in returns next
	memory address
	used   int // elements of scratch memory
	starts []func() error
	err    error
}

// in is the next input where it is there, nil otherwise.
func (a *args) in(there bool) *engine.Tensor {
	if !there {
		return nil
	}
	t := a.In[a.next]
	a.next++
	return t
}

// out is output i, nil where nobody uses it.
func (a *args) out(i int) *engine.Tensor {
	if i >= len(a.Out) {
		return nil
	}
	return a.Out[i]
}

// scratchLine is the alignment of scratch memory, in elements.
const scratchLine = 64

// scratch takes n elements of 4 bytes.
func (a *args) scratch(n int) address {
	p := a.memory + address(4*a.used)
	a.used += blocks(n, scratchLine) * scratchLine
	return p
}

// file is a file of kernels in use by a call.
type file struct {
	a *args
	m *module
}

// file compiles a file of kernels with definitions. While scratch is sized the
// compilation is only started, so that those of a whole plan run side by side.
func (a *args) file(name string, defines ...define) file {
	if a.sizing && !a.b.dry && a.err == nil {
		a.b.build(name+fmt.Sprint(defines), source(name, defines))
	}
	if a.sizing || a.err != nil {
		return file{a: a}
	}
	m, err := a.b.module(name, defines)
	a.fail(err)
	return file{a, m}
}

// launch adds a launch to the step.
func (f file) launch(name string, g grid, arguments ...any) {
	a := f.a
	if a.sizing || a.err != nil || g.x == 0 {
		return
	}
	fn, err := a.b.function(f.m, name)
	if err != nil {
		a.fail(err)
		return
	}
	l, err := newLaunch(a.b, fn, g, arguments)
	if err != nil {
		a.fail(err)
		return
	}
	a.starts = append(a.starts, l.start)
}

// fail keeps the first error.
func (a *args) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}

// faults is where kernels note bad data.
func (a *args) faults() address {
	if a.b.faults == nil {
		return 0
	}
	return a.b.faults.at
}

// blocks is the number of blocks of size that cover n.
func blocks(n, size int) int { return (n + size - 1) / size }
