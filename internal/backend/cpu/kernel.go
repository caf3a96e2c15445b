package cpu

import (
	"fmt"

	"jambalaya/internal/engine"
)

// kernel is one operator's implementation. Each file of this package registers
// its own with init.
type kernel struct {
	// scratch returns the float32 elements of scratch memory; nil for none.
	scratch func(b *Backend, c *engine.Call) int
	// bind returns the function that a step calls.
	bind func(b *Backend, c *engine.Call) func() error
}

var kernels = map[string]kernel{}

func register(name string, k kernel) {
	if _, ok := kernels[name]; ok {
		panic(fmt.Sprintf("cpu: kernel %q registered twice", name))
	}
	kernels[name] = k
}

// Kernel implements engine.Backend.
func (b *Backend) Kernel(name string) (engine.Kernel, bool) {
	k, ok := kernels[name]
	return bound{b, k}, ok
}

// bound is a kernel of one backend.
type bound struct {
	b *Backend
	kernel
}

// Scratch implements engine.Kernel.
func (k bound) Scratch(c *engine.Call) int {
	if k.scratch == nil {
		return 0
	}
	return k.scratch(k.b, c)
}

// Bind implements engine.Kernel.
func (k bound) Bind(c *engine.Call) (func() error, error) { return k.bind(k.b, c), nil }

// rowBlock is the number of rows in a block of a sum over rows. It is fixed:
// results would change with it.
const rowBlock = 64

// blocks is the number of blocks of size that cover n.
func blocks(n, size int) int { return (n + size - 1) / size }
