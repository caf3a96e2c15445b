package cpu

import (
	"errors"
	"fmt"
	"sync/atomic"
	"unsafe"

	"jambalaya/internal/backend/cpu/pool"
	"jambalaya/internal/backend/cpu/simd"
	"jambalaya/internal/engine"
	"jambalaya/internal/human"
)

// ErrOutOfMemory is returned by Alloc for a size that the machine cannot have.
var ErrOutOfMemory = errors.New("out of memory: choose a smaller model, batch or sequence, or set trainer.recompute")

// Backend implements engine.Backend on the processor.
type Backend struct {
	pool *pool.Pool
	work []simd.Workspace // of each worker

	limit     int64        // bytes that the machine has
	allocated atomic.Int64 // bytes of all memory not freed
}

var (
	_ engine.Backend    = (*Backend)(nil)
	_ engine.HostMemory = (*Backend)(nil)
)

// Usable reports a JAMBALAYA_SIMD that names no instruction set of this machine.
// Programs ask before they open a backend, so that none computes on another path
// than it was told to.
func Usable() error { return simd.EnvError() }

// New returns a backend with the given number of threads, all cores for 0.
func New(threads int) *Backend {
	p := pool.New(threads)
	return &Backend{pool: p, work: make([]simd.Workspace, p.Workers()), limit: hostMemory()}
}

// Close ends the workers.
func (b *Backend) Close() { b.pool.Close() }

// Name implements engine.Backend.
func (b *Backend) Name() string { return "cpu" }

// Path names the instruction set in use. Checkpoints record it: another one
// rounds differently.
func (b *Backend) Path() string { return "cpu/" + simd.Level() }

// Pool returns the workers, for work between plans.
func (b *Backend) Pool() *pool.Pool { return b.pool }

// memory is a block of host memory. It is allocated as 64-byte lines so that
// vector kernels start aligned.
type memory struct {
	lines []line
}

type line [64]byte

// Bytes implements engine.Memory.
func (m *memory) Bytes() int64 { return int64(len(m.lines)) * int64(unsafe.Sizeof(line{})) }

// Alloc implements engine.Backend. What the machine does not have is refused here:
// Go ends a program that asks for it.
func (b *Backend) Alloc(bytes int64) (engine.Memory, error) {
	n := (bytes + 63) / 64
	used := b.allocated.Load()
	if bytes < 0 || bytes > b.limit-used {
		return nil, fmt.Errorf("%s do not fit beside the %s in use, this machine has %s: %w",
			human.Bytes(bytes), human.Bytes(used), human.Bytes(b.limit), ErrOutOfMemory)
	}
	b.allocated.Add(n * int64(unsafe.Sizeof(line{})))
	lines := make([]line, n+1)
	skip := 0
	if uintptr(unsafe.Pointer(&lines[0]))%64 != 0 { // Go aligns large blocks to pages
		skip = 1
	}
	m := &memory{lines: lines[skip : int64(skip)+n]}
	adviseHuge(m)
	return m, nil
}

// Free implements engine.Backend; the collector does the rest.
func (b *Backend) Free(m engine.Memory) {
	b.allocated.Add(-m.Bytes())
	m.(*memory).lines = nil
}

// Sync implements engine.Backend.
func (b *Backend) Sync() error { return nil }

// Write implements engine.Backend.
func (b *Backend) Write(dst *engine.Tensor, src any) error { return transfer(dst, src, false) }

// Read implements engine.Backend.
func (b *Backend) Read(dst any, src *engine.Tensor) error { return transfer(src, dst, true) }

func transfer(t *engine.Tensor, host any, read bool) error {
	switch h := host.(type) {
	case []float32:
		if t.DType == engine.Float32 && len(h) == t.Size() {
			move(F32(t), h, read)
			return nil
		}
	case []int32:
		if t.DType == engine.Int32 && len(h) == t.Size() {
			move(I32(t), h, read)
			return nil
		}
	}
	return fmt.Errorf("cpu: copy between %v and %T", t, host)
}

func move[T any](dev, host []T, read bool) {
	if read {
		copy(host, dev)
	} else {
		copy(dev, host)
	}
}

// Floats implements engine.HostMemory.
func (b *Backend) Floats(t *engine.Tensor) []float32 { return F32(t) }

// F32 is a float tensor's memory; nil for a nil tensor.
func F32(t *engine.Tensor) []float32 { return view[float32](t) }

// I32 is an integer tensor's memory; nil for a nil tensor.
func I32(t *engine.Tensor) []int32 { return view[int32](t) }

func view[T float32 | int32](t *engine.Tensor) []T {
	if t == nil {
		return nil
	}
	n := t.Size()
	if n == 0 {
		return []T{}
	}
	m := t.Mem.(*memory)
	if t.Off < 0 || t.Off+t.Bytes() > m.Bytes() {
		panic(fmt.Sprintf("cpu: tensor of %d bytes at %d outside memory of %d", t.Bytes(), t.Off, m.Bytes()))
	}
	return unsafe.Slice((*T)(unsafe.Add(unsafe.Pointer(&m.lines[0]), t.Off)), n)
}
