package engine

import "fmt"

// DType is the type in which a tensor is stored.
type DType uint8

const (
	Float32 DType = iota
	BFloat16
	Int32
)

// Bytes is the size of one element.
func (d DType) Bytes() int64 {
	if d == BFloat16 {
		return 2
	}
	return 4
}

func (d DType) String() string { return [...]string{"float32", "bfloat16", "int32"}[d] }

// Memory is a block of a backend's memory; the same block is the same value (==).
type Memory interface {
	// Bytes is the size of the block.
	Bytes() int64
}

// Tensor is a row-major array in a block of memory.
type Tensor struct {
	Shape []int
	DType DType
	Mem   Memory // nil while a plan is being laid out
	Off   int64  // bytes from the start of Mem
}

// Size is the number of elements.
func (t *Tensor) Size() int { return Size(t.Shape) }

// Bytes is the memory the tensor takes.
func (t *Tensor) Bytes() int64 { return int64(t.Size()) * t.DType.Bytes() }

// Dim returns one extent; negative indices count from the end.
func (t *Tensor) Dim(i int) int {
	if i < 0 {
		i += len(t.Shape)
	}
	return t.Shape[i]
}

func (t *Tensor) String() string { return fmt.Sprintf("%v%v", t.DType, t.Shape) }

// Call is one use of a kernel in a plan.
type Call struct {
	Kernel  string
	Attrs   Attrs
	In      []*Tensor
	Out     []*Tensor // nil where nobody uses the output
	Scratch *Tensor   // float32, of the size that Kernel.Scratch asked for; nil for 0
}

// Kernel is one backend's implementation of an operator.
type Kernel interface {
	// Scratch returns how many float32 elements of scratch memory the call
	// needs. The tensors of c have shapes and types but no memory yet.
	Scratch(c *Call) int
	// Bind returns the function that a step calls. The tensors of c are final.
	Bind(c *Call) (func() error, error)
}

// Backend is a device: memory, transfers and a table of kernels.
type Backend interface {
	Name() string
	// Alloc returns zeroed memory, aligned for the device's widest access.
	Alloc(bytes int64) (Memory, error)
	Free(Memory)
	// Write copies host data into a tensor, Read the other way; src and dst are
	// []float32, []int32 or []uint16 (bf16 bits) of the tensor's size and type.
	Write(dst *Tensor, src any) error
	Read(dst any, src *Tensor) error
	// Kernel returns the implementation of an operator.
	Kernel(name string) (Kernel, bool)
	// Sync waits until all that was started is done.
	Sync() error
}

// HostMemory is implemented by backends whose memory is the host's own: others on
// the host, a collective say, may work on it in place.
type HostMemory interface {
	// Floats returns the elements of a float32 tensor.
	Floats(t *Tensor) []float32
}
