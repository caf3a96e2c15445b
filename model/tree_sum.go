package model

import (
	"math/bits"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// TreeSum adds up tensors that are computed one after the other in the same memory, in one
// tree: neighbours, then neighbouring sums. So the sum of a power of two of them has the
// bits of the sum of those of its halves, wherever they were computed. It keeps a tensor a
// level of the tree.
type TreeSum struct {
	backend engine.Backend
	n       int
	kept    []*engine.Tensor
	add     []*engine.Plan // by level: the tensor += what is kept there
	keep    []*engine.Plan // keeps the tensor, with what is kept one level lower
}

// NewTreeSum returns a sum of n tensors, a power of two, in the memory of one.
func NewTreeSum(be engine.Backend, t *engine.Tensor, n int) (_ *TreeSum, err error) {
	s := &TreeSum{backend: be, n: n}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	for level := range bits.TrailingZeros(uint(n)) {
		kept := &engine.Tensor{Shape: t.Shape, DType: t.DType}
		if kept.Mem, err = be.Alloc(kept.Bytes()); err != nil {
			return nil, err
		}
		s.kept = append(s.kept, kept)
		if err := s.build(t, level); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// build makes the plans of a level.
func (s *TreeSum) build(t *engine.Tensor, level int) error {
	for plans, to := range map[*[]*engine.Plan]*engine.Tensor{&s.add: t, &s.keep: s.kept[level]} {
		p := newPlanBuilder()
		x := p.input("x", t)
		var out *G.Node
		switch {
		case to == t:
			out = p.Accumulate(x, p.input("kept", s.kept[level]))
		case level == 0:
			out = p.Narrow(x, p.input("kept", to))
		default:
			out = p.Add(p.input("kept", s.kept[level-1]), x)
		}
		p.output(out, to)
		plan, err := p.plan(s.backend)
		if err != nil {
			return err
		}
		*plans = append(*plans, plan)
	}
	return nil
}

// Add takes tensor i, of 0 to n-1 in this order, from the memory. After the last one the
// sum is there.
func (s *TreeSum) Add(i int) error {
	if s.n == 1 {
		return nil
	}
	level, adds := bits.TrailingZeros(^uint(i)), 0 // of the branch that tensor i completes
	if adds = level; i < s.n-1 {
		adds--
	}
	for j := range max(0, adds) {
		if err := s.add[j].Run(); err != nil {
			return err
		}
	}
	if i == s.n-1 {
		return nil
	}
	return s.keep[level].Run()
}

// Bytes is the memory of the sum beside that of one tensor.
func (s *TreeSum) Bytes() int64 {
	n := int64(0)
	for _, k := range s.kept {
		n += k.Bytes()
	}
	return n
}

// Close frees the memory.
func (s *TreeSum) Close() {
	for _, p := range append(s.add, s.keep...) {
		p.Close()
	}
	for _, k := range s.kept {
		if k.Mem != nil {
			s.backend.Free(k.Mem)
		}
	}
	s.add, s.keep, s.kept = nil, nil, nil
}
