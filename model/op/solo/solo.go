package solo

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// Program is one operator, with its gradient where it has one.
type Program struct {
	*engine.Program
	// Below are the integer inputs with the bound of their values: 1 for
	// document ids, which are all the same then.
	Below map[engine.ValueID]int
}

// graph collects what a program is made of.
type graph struct {
	*op.Builder
	wrt   []*G.Node
	below map[*G.Node]int
	f32   []*G.Node // stored in fp32 whatever the program computes in
}

func newGraph() *graph { return &graph{Builder: op.NewBuilder(), below: map[*G.Node]int{}} }

// float adds an input that has a gradient.
func (g *graph) float(shape ...int) *G.Node {
	n := g.Input(fmt.Sprintf("x%d", len(g.wrt)), shape...)
	g.wrt = append(g.wrt, n)
	return n
}

// single is float for an input that is always fp32: weights of norms, statistics.
func (g *graph) single(shape ...int) *G.Node {
	n := g.float(shape...)
	g.f32 = append(g.f32, n)
	return n
}

// ints adds integers below n.
func (g *graph) ints(n int, shape ...int) *G.Node {
	x := g.Ints(fmt.Sprintf("i%d", len(g.below)), shape...)
	g.below[x] = n
	return x
}

func (g *graph) docs(batch, length int) *G.Node { return g.ints(1, batch, length) }

// lower makes a program that computes the outputs alone.
func (g *graph) lower(outs ...*G.Node) (Program, error) {
	prog, err := engine.Lower(g.Graph(), outs...)
	if err != nil {
		return Program{}, fmt.Errorf("solo: %w", err)
	}
	for _, n := range g.f32 {
		if v, ok := prog.Value(n); ok {
			prog.Values[v].Class = engine.F32
		}
	}
	p := Program{Program: prog, Below: map[engine.ValueID]int{}}
	for n, below := range g.below {
		if v, ok := prog.Value(n); ok {
			p.Below[v] = below
		}
	}
	return p, nil
}

// differentiated makes a program that computes the outputs and the gradient of
// every float input.
func (g *graph) differentiated(outs ...*G.Node) (Program, error) {
	var seeds []*G.Node
	for i, o := range outs {
		seed := g.Input(fmt.Sprintf("seed%d", i), o.Shape()...)
		if o.Op().(engine.Lowerable).Lower().Outs[0].Class == engine.F32 {
			g.f32 = append(g.f32, seed)
		}
		seeds = append(seeds, seed)
	}
	grads, err := g.Gradients(outs, seeds, g.wrt)
	if err != nil {
		return Program{}, fmt.Errorf("solo: %w", err)
	}
	return g.lower(append(outs, grads...)...)
}
