package cuda

import (
	"fmt"
	"strings"
	"unsafe"

	"jambalaya/internal/engine"
)

// grid is how many threads a launch has: blocks, threads of each, and dynamic
// shared memory of each. Zeros stand for ones, but for no blocks at all.
type grid struct {
	x, y, z int
	threads int
	rows    int // second extent of a block
	shared  int // bytes
}

// launch is a kernel with its arguments, ready to start.
type launch struct {
	b       *Backend
	name    string
	call    []uintptr // of cuLaunchKernel
	pointer []unsafe.Pointer
	values  []uint64
	blobs   [][]byte
}

// newLaunch checks arguments against the kernel's signature: tensors and
// addresses for pointers, int for index_t, float32 for float, float64 for
// double, and []byte for a structure.
func newLaunch(b *Backend, f *function, g grid, arguments []any) (*launch, error) {
	if len(arguments) != len(f.parameters) {
		return nil, fmt.Errorf("cuda: %s takes %d arguments, not %d", f.name, len(f.parameters), len(arguments))
	}
	l := &launch{b: b, name: f.name, values: make([]uint64, len(arguments))}
	for i, x := range arguments {
		if err := fits(f.parameters[i], x); err != nil {
			return nil, fmt.Errorf("cuda: argument %d of %s: %w", i, f.name, err)
		}
		l.pointer = append(l.pointer, l.argument(i, x))
	}
	const most = 227 << 10
	if g.shared > most {
		return nil, fmt.Errorf("cuda: %s needs %d bytes of shared memory, a multiprocessor has %d", f.name, g.shared, most)
	}
	if b.dry {
		return l, nil
	}
	if g.shared > f.shared {
		const maxDynamicShared = 8
		defer b.enter()()
		if err := b.driver.check("shared memory of "+f.name, syscall(b.driver.setFunction, f.handle, maxDynamicShared, uintptr(g.shared))); err != nil {
			return nil, err
		}
		f.shared = g.shared
	}
	one := func(n int) uintptr { return uintptr(max(n, 1)) }
	l.call = []uintptr{f.handle, one(g.x), one(g.y), one(g.z), one(g.threads), one(g.rows), 1, uintptr(g.shared), b.stream,
		uintptr(unsafe.Pointer(unsafe.SliceData(l.pointer))), 0}
	return l, nil
}

// argument stores a value where the driver finds it.
func (l *launch) argument(i int, x any) unsafe.Pointer {
	switch x := x.(type) {
	case *engine.Tensor:
		l.values[i] = uint64(at(x))
	case address:
		l.values[i] = uint64(x)
	case int:
		l.values[i] = uint64(int64(x))
	case float32:
		*(*float32)(unsafe.Pointer(&l.values[i])) = x
	case float64:
		*(*float64)(unsafe.Pointer(&l.values[i])) = x
	case []byte:
		l.blobs = append(l.blobs, x)
		return unsafe.Pointer(&x[0])
	}
	return unsafe.Pointer(&l.values[i])
}

// fits says whether an argument can be passed for a parameter.
func fits(parameter string, x any) error {
	pointer := strings.Contains(parameter, "*")
	words := strings.Fields(strings.NewReplacer("*", " ", "__grid_constant__", " ").Replace(parameter))
	kind := words[0]
	if kind == "const" && len(words) > 1 {
		kind = words[1]
	}
	ok := false
	switch x := x.(type) {
	case *engine.Tensor:
		stored, fixed := map[string]engine.DType{"float": engine.Float32, "int": engine.Int32, "bf16": engine.BFloat16}[kind]
		ok = pointer && (x == nil || !fixed || x.DType == stored)
	case address:
		ok = pointer
	case int:
		ok = !pointer && kind == "index_t"
	case float32:
		ok = !pointer && kind == "float"
	case float64:
		ok = !pointer && kind == "double"
	case []byte:
		ok = !pointer && strings.HasPrefix(kind, "Struct")
	}
	if !ok {
		return fmt.Errorf("%v (%T) for %q", x, x, strings.TrimSpace(parameter))
	}
	return nil
}

// start starts the kernel.
func (l *launch) start() error {
	status := syscall(l.b.driver.launch, l.call...)
	if status == 0 {
		return nil
	}
	return l.b.driver.check(l.name, status)
}
