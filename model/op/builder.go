package op

import (
	"fmt"
	"strings"

	"github.com/chewxy/hm"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"jambalaya/internal/engine"
)

// Builder makes the nodes of one expression graph.
type Builder struct {
	graph    *G.ExprGraph
	ids      uint32
	layer    int  // 1 + decoder layer of the operators being made, 0 outside
	backward bool // within Gradients
	// updateStates: see UpdateStates.
	updateStates bool
	salt         string
	names        map[string]*G.Node
}

// NewBuilder returns a builder with an empty graph.
func NewBuilder() *Builder {
	return &Builder{graph: G.NewGraph(), names: map[string]*G.Node{}}
}

// Salt changes the hash codes of the operators that follow: gorgonia's have 32 bits, and
// a graph in which two are the same has to be built again (engine.ErrHash).
func (b *Builder) Salt(n int) { b.salt = strings.Repeat("'", n) }

// Graph returns the graph.
func (b *Builder) Graph() *G.ExprGraph { return b.graph }

// Layer makes what follows part of decoder layer i; the returned function ends it.
func (b *Builder) Layer(i int) func() { return b.enter(i+1, b.backward) }

func (b *Builder) enter(layer int, backward bool) func() {
	l, w := b.layer, b.backward
	b.layer, b.backward = layer, backward
	return func() { b.layer, b.backward = l, w }
}

// Input adds a float input of the given shape.
func (b *Builder) Input(name string, shape ...int) *G.Node {
	return b.leaf(name, tensor.Float32, shape)
}

// Param adds a weight. It is an input like any other; the name is its own so
// that model code reads well.
func (b *Builder) Param(name string, shape ...int) *G.Node { return b.Input(name, shape...) }

// Ints adds an int32 input.
func (b *Builder) Ints(name string, shape ...int) *G.Node { return b.leaf(name, tensor.Int32, shape) }

func (b *Builder) leaf(name string, dt tensor.Dtype, shape []int) *G.Node {
	if _, ok := b.names[name]; ok {
		panic(fmt.Sprintf("op: input %q exists", name))
	}
	n := G.NewTensor(b.graph, dt, len(shape), G.WithShape(shape...), G.WithName(name))
	b.names[name] = n
	return n
}

// Lookup returns an input by name, nil if there is none.
func (b *Builder) Lookup(name string) *G.Node { return b.names[name] }

// Gradients differentiates sum_i <seeds_i, outs_i> with respect to each of wrt.
// The seeds are nodes of the graph, so that loss scaling and the division by the
// number of targets of the global batch are inputs. It may be called once for a
// graph: gorgonia's second pass over a shared graph is silently wrong.
func (b *Builder) Gradients(outs, seeds, wrt []*G.Node) ([]*G.Node, error) {
	grads, err := G.Backpropagate(outs, seeds, wrt)
	if err != nil {
		return nil, fmt.Errorf("op: gradient: %w", err)
	}
	return grads, nil
}

// apply adds an operator and returns its outputs.
func (b *Builder) apply(d def, inputs ...*G.Node) []*G.Node {
	o := &Op{b: b, ref: d.ref, grad: d.grad, diff: d.diff, spec: engine.Spec{Kernel: d.kernel, Attrs: d.attrs, Outs: d.outs,
		Layer: b.layer, Backward: b.backward, Cheap: d.cheap, Exchange: d.exchange}}
	if len(d.outs) == 1 {
		o.out = tensor.Shape(d.outs[0].Shape).Clone()
	} else {
		n := 0
		for _, out := range d.outs {
			n += out.Size()
		}
		o.out = tensor.Shape{n}
	}
	if o.diff == nil {
		o.diff = make([]bool, len(inputs))
	}
	n := b.node(o, inputs)
	if len(d.outs) == 1 {
		return []*G.Node{n}
	}
	return b.parts(n)
}

func (b *Builder) node(o *Op, inputs []*G.Node) *G.Node {
	b.ids++
	o.id = b.ids
	for _, n := range inputs {
		o.ins = append(o.ins, hm.Type(G.TensorType{Dims: n.Dims(), Of: n.Dtype()}))
	}
	return G.Must(G.ApplyOp(o, inputs...))
}

// parts returns a node for each output of a packed operator.
func (b *Builder) parts(packed *G.Node) []*G.Node {
	spec := packed.Op().(*Op).spec
	nodes := make([]*G.Node, len(spec.Outs))
	at := 0
	for i, out := range spec.Outs {
		nodes[i] = b.part(packed, i, at, out)
		at += out.Size()
	}
	return nodes
}

// part names output i of a packed operator. Its gradient is not a zero-padded
// copy but a partGrad node, which the packed operator's SymDiff takes apart
// again, so that only the gradients that exist are computed.
func (b *Builder) part(packed *G.Node, i, at int, out engine.Out) *G.Node {
	n := out.Size()
	o := &Op{b: b, out: tensor.Shape(out.Shape).Clone(), diff: []bool{true},
		spec: engine.Spec{Kind: engine.Part, Kernel: "part", Index: i, Layer: b.layer, Outs: []engine.Out{out}},
		ref:  func(in, out [][]float64) { copy(out[0], in[0][at:at+n]) }}
	o.grad = func(in, _, dout []*G.Node) []*G.Node {
		total := in[0].Shape()[0]
		g := &Op{b: b, out: tensor.Shape{total}, diff: []bool{false},
			spec: engine.Spec{Kernel: partGradKernel, Index: i, Outs: []engine.Out{{Shape: []int{total}}}, Backward: true},
			ref:  func(in, out [][]float64) { copy(out[0][at:], in[0]) }}
		return []*G.Node{b.node(g, dout)}
	}
	return b.node(o, []*G.Node{packed})
}

// partGradKernel never reaches a backend: see part.
const partGradKernel = "part_grad"

// gradParts takes the gradient of a packed output apart: it is a sum of partGrad
// nodes, whose children are the gradients of the outputs.
func (b *Builder) gradParts(grad *G.Node, outputs int) []*G.Node {
	parts := make([]*G.Node, outputs)
	var walk func(n *G.Node)
	walk = func(n *G.Node) {
		kids := childrenOf(b.graph, n)
		if o, ok := n.Op().(*Op); ok && o.spec.Kernel == partGradKernel {
			if i := o.spec.Index; parts[i] == nil {
				parts[i] = kids[0]
			} else {
				parts[i] = b.Add(parts[i], kids[0])
			}
			return
		}
		for _, c := range kids { // gorgonia's sum
			walk(c)
		}
	}
	walk(grad)
	return parts
}

// Slice names size(shape) consecutive elements of x from element offset on. It
// costs nothing and has no gradient.
func (b *Builder) Slice(x *G.Node, offset int, shape ...int) *G.Node {
	n := engine.Size(shape)
	if offset < 0 || offset+n > x.Shape().TotalSize() {
		panic(fmt.Sprintf("op: slice of %d elements at %d from %v", n, offset, x.Shape()))
	}
	o := &Op{b: b, out: tensor.Shape(shape).Clone(), diff: []bool{false},
		spec: engine.Spec{Kind: engine.Slice, Kernel: "slice", Index: offset, Layer: b.layer, Outs: []engine.Out{{Shape: shape}}},
		ref:  func(in, out [][]float64) { copy(out[0], in[0][offset:offset+n]) }}
	return b.node(o, []*G.Node{x})
}

// act is an output that is stored as activations are.
func act(shape ...int) engine.Out { return engine.Out{Shape: shape} }

func f32(shape ...int) engine.Out { return engine.Out{Shape: shape, Class: engine.F32} }

func i32(shape ...int) engine.Out { return engine.Out{Shape: shape, Class: engine.I32} }

// kept marks an output that recomputation does not make again.
func kept(o engine.Out) engine.Out { o.Keep = true; return o }

// inPlace lets an output take the memory of one of the inputs.
func inPlace(o engine.Out, inputs ...int) engine.Out { o.InPlace = inputs; return o }

// flag is a boolean attribute.
func flag(name string, on bool) engine.Attr {
	if on {
		return engine.Attr{Name: name, Value: 1}
	}
	return engine.Attr{Name: name}
}

func num[T int | float64](name string, v T) engine.Attr {
	return engine.Attr{Name: name, Value: float64(v)}
}

// diff marks which of n inputs have a gradient.
func diff(n int, inputs ...int) []bool {
	d := make([]bool, n)
	for _, i := range inputs {
		d[i] = true
	}
	return d
}

// check panics with a readable message when a shape rule is broken.
func check(ok bool, format string, args ...any) {
	if !ok {
		panic("op: " + fmt.Sprintf(format, args...))
	}
}

// UpdateStates makes the operators that follow write their final state over the
// initial one, as decoding wants it. A graph that is differentiated needs both.
func (b *Builder) UpdateStates() { b.updateStates = true }

// nextState is the output for the final state of an operator whose initial state
// is the given input.
func (b *Builder) nextState(o engine.Out, state *G.Node, input int) engine.Out {
	if b.updateStates && state != nil {
		o.Updates = input + 1
	}
	return kept(o)
}
