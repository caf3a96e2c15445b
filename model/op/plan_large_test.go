package op

import (
	"errors"
	"testing"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// virtualBackend has memory that is not there, and kernels that do nothing.
type virtualBackend struct{ refBackend }

type virtualMemory struct{ bytes int64 }

func (m *virtualMemory) Bytes() int64 { return m.bytes }

func (virtualBackend) Alloc(bytes int64) (engine.Memory, error) {
	if bytes > 1<<40 {
		return nil, errors.New("no memory")
	}
	return &virtualMemory{bytes}, nil
}

func (virtualBackend) Free(engine.Memory) {}

type virtualKernel struct{}

func (virtualBackend) Kernel(string) (engine.Kernel, bool) { return virtualKernel{}, true }

func (virtualKernel) Scratch(*engine.Call) int { return 0 }

func (virtualKernel) Bind(*engine.Call) (func() error, error) {
	return func() error { return nil }, nil
}

// TestLargeTensors: sizes and offsets beyond 32 bits.
func TestLargeTensors(t *testing.T) {
	t.Parallel()
	const rows, width = 1 << 16, 3 << 14 // 12 GiB each
	k := newKit(1)
	in := func(name string) *G.Node { return k.Input(name, rows, width) }
	a := k.Add(in("a"), in("b"))
	c := k.Add(in("c"), in("d"))
	tail := k.Slice(a, (rows-1)*width, 1, width)
	outs := nodes{k.MatMul(a, c, false, true), tail, c}
	p := compile(t, k, &virtualBackend{}, engine.Options{}, outs...)
	u := p.plan.Usage()
	const each = 4 * rows * width
	if want := int64(2*each + 4*rows*rows); u.Arena != want || u.Inputs != 4*each {
		t.Errorf("%+v, want an arena of %d and inputs of %d bytes", u, want, int64(4*each))
	}
	var last int64
	for _, n := range []*G.Node{a, c, outs[0]} {
		id, _ := p.prog.Value(n)
		x := p.plan.Tensor(id)
		if x.Off < 0 || x.Off+x.Bytes() > u.Arena {
			t.Errorf("%v lies at %d of %d", x, x.Off, u.Arena)
		}
		last = max(last, x.Off)
	}
	if last < 1<<32 {
		t.Errorf("the last value starts at %d: the test wants more than 4 GiB", last)
	}
	ida, _ := p.prog.Value(a)
	idt, _ := p.prog.Value(tail)
	if got, want := p.plan.Tensor(idt).Off-p.plan.Tensor(ida).Off, int64(4*(rows-1)*width); got != want {
		t.Errorf("the slice lies %d bytes into its value, want %d", got, want)
	}
}
