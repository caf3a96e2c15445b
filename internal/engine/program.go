package engine

import (
	"fmt"
	"sort"

	"gonum.org/v1/gonum/graph"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"
)

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
// process and keeps a gradient close to its use.
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
			return nil, fmt.Errorf("lower: nodes %d and %d have the same hash code, so gorgonia may have merged others: rename a parameter", o.ID(), n.ID())
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

// fuseAccumulate rewrites add(a, product) into a matrix product that accumulates
// into a, one pass over the sum less: where a dies in the sum, or is a running
// sum that the add updates.
func (p *Program) fuseAccumulate() {
	uses := p.useCounts()
	dead := map[int]bool{}
	for i := range p.Instrs {
		add := &p.Instrs[i]
		if add.Kernel != "add" {
			continue
		}
		for side := 1; side >= 0; side-- {
			def := p.Values[add.In[side]].Def
			if def < 0 || dead[def] || !p.fusible(add, side, uses) {
				continue
			}
			prod := p.Instrs[def]
			out := add.Outs[0]
			out.InPlace, out.Updates = nil, len(prod.In)+1
			in := append(append([]ValueID(nil), prod.In...), add.In[1-side])
			*add = Instr{Spec: prod.Spec, In: in, Out: add.Out}
			add.Outs = []Out{out}
			add.Attrs = append(append(Attrs(nil), prod.Attrs...), Attr{"accumulate", 1})
			dead[def] = true
			break
		}
	}
	p.remove(dead)
}

// fusible says whether operand side of an add is a product that nobody else
// reads, and the other operand memory that it may be added to.
func (p *Program) fusible(add *Instr, side int, uses []int) bool {
	prod, acc := add.In[side], add.In[1-side]
	in := &p.Instrs[p.Values[prod].Def]
	if in.Kernel != "matmul" && in.Kernel != "grouped_matmul_dw" || in.Attrs.Bool("accumulate") || uses[prod] != 1 || prod == acc {
		return false
	}
	updated := add.Outs[0].Updates == 2-side
	return updated || p.Values[acc].Def >= 0 && uses[acc] == 1
}

// useCounts returns how often each value is read, outputs of the program and
// views included.
func (p *Program) useCounts() []int {
	uses := make([]int, len(p.Values))
	for i := range p.Instrs {
		for _, v := range p.Instrs[i].In {
			uses[v]++
		}
	}
	for i := range p.Values {
		if b := p.Values[i].Base; b >= 0 {
			uses[b]++
		}
	}
	for _, v := range p.Outputs {
		uses[v]++
	}
	return uses
}

// remove drops instructions and renumbers the definitions.
func (p *Program) remove(dead map[int]bool) {
	if len(dead) == 0 {
		return
	}
	kept := p.Instrs[:0]
	for i, in := range p.Instrs {
		if dead[i] {
			continue
		}
		for _, v := range in.Out {
			if v >= 0 {
				p.Values[v].Def = len(kept)
			}
		}
		kept = append(kept, in)
	}
	p.Instrs = kept
}
