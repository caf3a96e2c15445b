package op

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// refBackend runs the references of a graph's operators as an engine.Backend.
// New memory, scratch and whatever scratch has touched are filled with NaN, so
// that a plan which lets two values overlap does not go unnoticed.
type refBackend struct {
	kernels   map[string][]refKernel // by kernel name, then matched by shapes
	allocated int64
}

type refKernel struct {
	attrs string
	ins   [][]int
	outs  [][]int
	ref   reference
}

// newRefBackend takes the operators out of a graph.
func newRefBackend(g *G.ExprGraph) *refBackend {
	b := &refBackend{kernels: map[string][]refKernel{}}
	for _, n := range g.AllNodes() {
		switch o := n.Op().(type) {
		case nil:
		case *Op:
			k := refKernel{attrs: o.spec.Attrs.String(), ref: o.ref}
			for _, c := range childrenOf(g, n) {
				k.ins = append(k.ins, c.Shape())
			}
			for _, out := range o.spec.Outs {
				k.outs = append(k.outs, out.Shape)
			}
			b.kernels[o.spec.Kernel] = append(b.kernels[o.spec.Kernel], k)
		default: // gorgonia's sum
			b.kernels["add"] = append(b.kernels["add"], refKernel{ins: [][]int{n.Shape(), n.Shape()}, outs: [][]int{n.Shape()},
				ref: func(in, out [][]float64) {
					for i := range out[0] {
						out[0][i] = in[0][i] + in[1][i]
					}
				}})
		}
	}
	return b
}

type refMemory struct{ data []byte }

func (m *refMemory) Bytes() int64 { return int64(len(m.data)) }

func (b *refBackend) Name() string { return "reference" }

func (b *refBackend) Alloc(bytes int64) (engine.Memory, error) {
	m := &refMemory{make([]byte, bytes)}
	fillNaN(m.data)
	b.allocated += bytes
	return m, nil
}

func (b *refBackend) Free(m engine.Memory) { b.allocated -= m.Bytes() }

func (b *refBackend) Sync() error { return nil }

// fillNaN writes a pattern that is NaN in fp32 and in bf16.
func fillNaN(m []byte) {
	for i := range m {
		m[i] = 0xff
	}
}

// Write and Read take []float64, for integers too.
func (b *refBackend) Write(dst *engine.Tensor, src any) error {
	store(dst, src.([]float64))
	return nil
}

func (b *refBackend) Read(dst any, src *engine.Tensor) error {
	load(dst.([]float64), src)
	return nil
}

func bytesOf(t *engine.Tensor) []byte { return t.Mem.(*refMemory).data[t.Off : t.Off+t.Bytes()] }

func load(dst []float64, t *engine.Tensor) {
	m := bytesOf(t)
	for i := range dst {
		switch t.DType {
		case engine.Float32:
			dst[i] = float64(math.Float32frombits(binary.LittleEndian.Uint32(m[4*i:])))
		case engine.BFloat16:
			dst[i] = float64(math.Float32frombits(uint32(binary.LittleEndian.Uint16(m[2*i:])) << 16))
		case engine.Int32:
			dst[i] = float64(int32(binary.LittleEndian.Uint32(m[4*i:])))
		}
	}
}

func store(t *engine.Tensor, src []float64) {
	m := bytesOf(t)
	for i, x := range src {
		switch t.DType {
		case engine.Float32:
			binary.LittleEndian.PutUint32(m[4*i:], math.Float32bits(float32(x)))
		case engine.BFloat16: // truncated: the tests compare plans with plans
			binary.LittleEndian.PutUint16(m[2*i:], uint16(math.Float32bits(float32(x))>>16))
		case engine.Int32:
			binary.LittleEndian.PutUint32(m[4*i:], uint32(int32(x)))
		}
	}
}

func (b *refBackend) Kernel(name string) (engine.Kernel, bool) {
	k, ok := b.kernels[name]
	return refKernels(k), ok
}

type refKernels []refKernel

// Scratch asks for some, which Bind's function fills with NaN.
func (refKernels) Scratch(*engine.Call) int { return 5 }

func (ks refKernels) Bind(c *engine.Call) (func() error, error) {
	// Lower makes matmul(a, b) + c0 one call: the reference knows the product.
	in, attrs := c.In, c.Attrs
	accumulate := attrs.Bool("accumulate")
	if accumulate {
		in, attrs = in[:len(in)-1], attrs[:len(attrs)-1]
	}
	k, err := ks.find(in, c.Out, attrs)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.Kernel, err)
	}
	ins, outs := buffers(k.ins), buffers(k.outs)
	var c0 []float64
	if accumulate {
		c0 = make([]float64, c.In[len(c.In)-1].Size())
	}
	return func() error {
		fillNaN(bytesOf(c.Scratch))
		for i, t := range in {
			load(ins[i], t)
		}
		for i := range outs {
			clear(outs[i])
		}
		k.ref(ins, outs)
		if accumulate {
			load(c0, c.In[len(c.In)-1])
			for i, x := range c0 {
				outs[0][i] += x
			}
		}
		for i, t := range c.Out {
			if t != nil {
				store(t, outs[i])
			}
		}
		fillNaN(bytesOf(c.Scratch))
		return nil
	}, nil
}

func (ks refKernels) find(in, out []*engine.Tensor, attrs engine.Attrs) (refKernel, error) {
	for _, k := range ks {
		if k.attrs == attrs.String() && fits(k.ins, in) && fits(k.outs, out) {
			return k, nil
		}
	}
	return refKernel{}, fmt.Errorf("no operator with %v of %v -> %v", attrs, in, out)
}

func fits(shapes [][]int, tensors []*engine.Tensor) bool {
	if len(shapes) != len(tensors) {
		return false
	}
	for i, t := range tensors {
		if t != nil && !slices.Equal(shapes[i], t.Shape) {
			return false
		}
	}
	return true
}

func buffers(shapes [][]int) [][]float64 {
	b := make([][]float64, len(shapes))
	for i, s := range shapes {
		b[i] = make([]float64, engine.Size(s))
	}
	return b
}
