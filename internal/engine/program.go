package engine

import (
	"errors"
	"fmt"
	"sort"

	"gonum.org/v1/gonum/graph"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

// ErrHash is returned for a graph in which two nodes have the same hash code, by chance.
var ErrHash = errors.New("the same hash code")

// ValueID names a value of a Program.
type ValueID int

// Value is something an instruction reads or writes.
type Value struct {
	Name  string // of an input; else kernel and output
	Shape []int
	Class Class
	Def   int // index of the defining instruction, -1 for an input
	Out   int // which of its outputs

	// Base and Offset make the value a view: Base's elements from Offset on.
	Base   ValueID // -1: the value is not a view
	Offset int
}

// Size is the number of elements.
func (v *Value) Size() int { return Size(v.Shape) }

// Instr is one kernel call. In and Out index Program.Values; Out is -1 where
// nothing uses an output.
type Instr struct {
	Spec
	In  []ValueID
	Out []ValueID
}

// Program is a lowered graph: instructions in execution order.
type Program struct {
	Values  []Value
	Instrs  []Instr
	Inputs  []ValueID
	Outputs []ValueID // in the order Lower was given

	byNode map[int64]ValueID
}

// Lower reads the part of the graph that the outputs depend on. Instructions
// come in the order in which the model created the nodes: forward in reading
// order, then the gradient operator by operator, which is the same in every
// process and keeps a gradient close to its use. Sums of gradients move up to where
// their last operand is made, and products that are only added accumulate instead.
func Lower(g *G.ExprGraph, outputs ...*G.Node) (*Program, error) {
	nodes, err := needed(g, outputs)
	if err != nil {
		return nil, err
	}
	p := &Program{byNode: make(map[int64]ValueID, len(nodes))}
	tuples := map[int64]int{} // node -> instruction, for operators with several outputs
	for _, n := range nodes {
		if err := p.lowerNode(g, n, tuples); err != nil {
			return nil, fmt.Errorf("lower %s: %w", n.Name(), err)
		}
	}
	for _, o := range outputs {
		id, ok := p.byNode[o.ID()]
		if !ok {
			return nil, fmt.Errorf("lower: output %s is an operator with several outputs; ask for one of them", o.Name())
		}
		p.Outputs = append(p.Outputs, id)
	}
	p.hoistSums()
	p.fuseAccumulate()
	return p, nil
}

// needed returns the nodes that the outputs depend on, children first. It also
// checks that no two of them share a hash code, as gorgonia would have merged
// nodes that only look alike.
func needed(g *G.ExprGraph, outputs []*G.Node) (G.Nodes, error) {
	need := map[int64]bool{}
	var nodes G.Nodes
	stack := append(G.Nodes(nil), outputs...)
	for len(stack) > 0 {
		n := stack[len(stack)-1]
		stack = stack[:len(stack)-1]
		if need[n.ID()] {
			continue
		}
		need[n.ID()] = true
		nodes = append(nodes, n)
		stack = append(stack, children(g, n)...)
	}
	sort.Slice(nodes, func(i, j int) bool { return nodes[i].ID() < nodes[j].ID() })
	hashes := make(map[uint32]*G.Node, len(nodes))
	for _, n := range nodes {
		if o, ok := hashes[n.Hashcode()]; ok {
			return nil, fmt.Errorf("lower: %w: nodes %d and %d, so gorgonia may have merged others: rename a parameter", ErrHash, o.ID(), n.ID())
		}
		hashes[n.Hashcode()] = n
	}
	return nodes, nil
}

// children returns a node's children in argument order, duplicates kept; From
// is the only exported way to them.
func children(g *G.ExprGraph, n *G.Node) G.Nodes {
	kids := graph.NodesOf(g.From(n.ID()))
	nodes := make(G.Nodes, len(kids))
	for i, c := range kids {
		nodes[i] = c.(*G.Node)
	}
	return nodes
}

func (p *Program) lowerNode(g *G.ExprGraph, n *G.Node, tuples map[int64]int) error {
	if n.Op() == nil {
		class := Act
		if n.Dtype() == tensor.Int32 {
			class = I32
		}
		id := p.addValue(Value{Name: n.Name(), Shape: n.Shape().Clone(), Class: class, Def: -1, Base: -1})
		p.Inputs = append(p.Inputs, id)
		p.byNode[n.ID()] = id
		return nil
	}
	kids := children(g, n)
	spec, err := specOf(n, kids)
	if err != nil {
		return err
	}
	switch spec.Kind {
	case Part:
		instr := tuples[kids[0].ID()]
		p.byNode[n.ID()] = p.output(instr, spec.Index)
	case Slice:
		base := p.byNode[kids[0].ID()]
		p.byNode[n.ID()] = p.addValue(Value{Name: "slice", Shape: spec.Outs[0].Shape, Class: p.Values[base].Class,
			Def: -1, Base: base, Offset: spec.Index})
	default:
		in := make([]ValueID, len(kids))
		for i, c := range kids {
			in[i] = p.byNode[c.ID()]
		}
		out := make([]ValueID, len(spec.Outs))
		for i := range out {
			out[i] = -1
		}
		if _, ours := n.Op().(Lowerable); !ours { // gorgonia's sum is stored as its operands are
			spec.Outs[0].Class = p.Values[in[0]].Class
		}
		p.Instrs = append(p.Instrs, Instr{Spec: spec, In: in, Out: out})
		if len(out) == 1 {
			p.byNode[n.ID()] = p.output(len(p.Instrs)-1, 0)
		} else {
			tuples[n.ID()] = len(p.Instrs) - 1
		}
	}
	return nil
}

// output returns the value of an instruction's output, making it on first use.
func (p *Program) output(instr, i int) ValueID {
	in := &p.Instrs[instr]
	if in.Out[i] < 0 {
		o := in.Outs[i]
		in.Out[i] = p.addValue(Value{Name: fmt.Sprintf("%s.%d", in.Kernel, i), Shape: o.Shape, Class: o.Class,
			Def: instr, Out: i, Base: -1})
	}
	return in.Out[i]
}

func (p *Program) addValue(v Value) ValueID {
	p.Values = append(p.Values, v)
	return ValueID(len(p.Values) - 1)
}

// specOf asks the operator, and recognises the one node that is not ours: the
// elementwise add by which gorgonia sums several gradients of one value.
func specOf(n *G.Node, kids G.Nodes) (Spec, error) {
	if l, ok := n.Op().(Lowerable); ok {
		return l.Lower(), nil
	}
	if len(kids) == 2 {
		add := G.NewAddOp(kids[0], kids[1], G.ExecutionContext{Device: G.CPU})
		if fmt.Sprintf("%T", n.Op()) == fmt.Sprintf("%T", add.Op) && n.Op().Hashcode() == add.Op.Hashcode() {
			return Spec{Kernel: "add", Backward: true, Outs: []Out{{Shape: n.Shape().Clone(), InPlace: []int{0, 1}}}}, nil
		}
	}
	return Spec{}, fmt.Errorf("operator %v (%T) is not Lowerable", n.Op(), n.Op())
}

// Value returns the value of a node, if the program computes it.
func (p *Program) Value(n *G.Node) (ValueID, bool) {
	id, ok := p.byNode[n.ID()]
	return id, ok
}

// root follows views to the value that owns the memory.
func (p *Program) root(v ValueID) ValueID {
	for p.Values[v].Base >= 0 {
		v = p.Values[v].Base
	}
	return v
}
