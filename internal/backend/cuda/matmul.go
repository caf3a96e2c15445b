package cuda

import (
	"fmt"
	"slices"

	"jambalaya/internal/engine"
)

func init() { register("matmul", matmul) }

// matmul: c = op(a) op(b), or c += op(a) op(b) with accumulate, by cuBLASLt.
func matmul(a *args) {
	c := a.out(0)
	x, y := a.same(a.In[0], a.In[1], c)
	p := product{m: x.Dim(0), k: x.Dim(1), n: y.Dim(1), ta: a.Attrs.Bool("ta"), tb: a.Attrs.Bool("tb"),
		accumulate: a.Attrs.Bool("accumulate"), input: x.DType, output: c.DType, alignment: alignment(x, y, c)}
	if p.ta {
		p.m, p.k = p.k, p.m
	}
	if p.tb {
		p.n = y.Dim(0)
	}
	workspace := a.scratch(workspaceBytes / 4)
	if a.sizing || a.b.dry || a.err != nil || p.m == 0 || p.n == 0 {
		return
	}
	if p.k == 0 {
		if !p.accumulate {
			a.file("elementwise", typed("Y", c), constant("VEC", 1)).launch("zero", flat(c.Size(), 1), c, c.Size())
		}
		return
	}
	l := a.b.blas
	defer a.b.enter()()
	q, err := l.plan(p)
	if err != nil {
		a.fail(err)
		return
	}
	q.bind(l, at(x), at(y), at(c), workspace, a.b.stream)
	a.b.record(p.String(), q.algorithm())
	a.starts = append(a.starts, func() error {
		if status := syscall(l.multiply, q.call...); status != 0 {
			return fmt.Errorf("cuda: product %v: status %d of %s: %w", p, status, l.name, ErrDevice)
		}
		return nil
	})
}

// alignment is the largest power of two, up to 256, that divides the offsets.
func alignment(ts ...*engine.Tensor) uint32 {
	a := int64(256)
	for _, t := range ts {
		for t.Off%a != 0 {
			a /= 2
		}
	}
	return uint32(a)
}

// record notes the algorithm of a product.
func (b *Backend) record(product, algorithm string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.algorithms[product] = algorithm
}

// Algorithms lists the products of all plans so far with the algorithm of each,
// sorted, for checkpoints: the same list means the same bits.
func (b *Backend) Algorithms() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var list []string
	for p, a := range b.algorithms {
		list = append(list, p+" "+a)
	}
	slices.Sort(list)
	return list
}
