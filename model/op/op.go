package op

import (
	"fmt"
	"hash"

	"github.com/chewxy/hm"
	G "gorgonia.org/gorgonia"
	"gorgonia.org/tensor"

	"jambalaya/internal/engine"
)

// reference computes the outputs of an operator in float64 from its inputs.
// Integer inputs and outputs are whole numbers. Outputs come zeroed.
type reference func(in, out [][]float64)

// gradient builds the gradients of an operator's inputs. out are its outputs and
// dout their gradients, nil where an output has none. The result has an entry an
// input, nil for those that have no gradient.
type gradient func(in, out, dout []*G.Node) []*G.Node

// def describes an operator to Builder.apply.
type def struct {
	kernel string
	attrs  engine.Attrs
	outs   []engine.Out
	ref    reference
	grad   gradient // nil: not differentiable
	diff   []bool   // which inputs have a gradient
	// cheap and exchange are passed on to engine.Spec.
	cheap, exchange bool
}

// Op is an operator of the graph: gorgonia.Op, gorgonia.SDOp and engine.Lowerable.
type Op struct {
	b    *Builder
	id   uint32
	spec engine.Spec
	ins  []hm.Type
	out  tensor.Shape // of the node: the output, or the packed vector
	ref  reference
	grad gradient
	diff []bool
}

var (
	_ G.SDOp           = (*Op)(nil)
	_ engine.Lowerable = (*Op)(nil)
)

// Lower implements engine.Lowerable.
func (o *Op) Lower() engine.Spec { return o.spec }

// Arity implements gorgonia.Op.
func (o *Op) Arity() int { return len(o.ins) }

// Type implements gorgonia.Op. gorgonia returns the type to a pool, so it has to
// be a fresh one in each call.
func (o *Op) Type() hm.Type {
	ts := append([]hm.Type(nil), o.ins...)
	return hm.NewFnType(append(ts, G.TensorType{Dims: o.out.Dims(), Of: tensor.Float32})...)
}

// InferShape implements gorgonia.Op; shapes are known when an operator is made.
func (o *Op) InferShape(...G.DimSizer) (tensor.Shape, error) { return o.out.Clone(), nil }

// DiffWRT implements gorgonia.SDOp.
func (o *Op) DiffWRT(int) []bool { return o.diff }

// SymDiff implements gorgonia.SDOp.
func (o *Op) SymDiff(inputs G.Nodes, output, grad *G.Node) (G.Nodes, error) {
	if o.grad == nil {
		return nil, fmt.Errorf("operator %v has no gradient", o)
	}
	defer o.b.enter(o.spec.Layer, true)()
	outs, douts := []*G.Node{output}, []*G.Node{grad}
	if len(o.spec.Outs) > 1 {
		outs = o.b.parts(output)
		douts = o.b.gradParts(grad, len(outs))
	}
	return o.grad(inputs, outs, douts), nil
}

// Do implements gorgonia.Op: it runs the reference on float32 values.
func (o *Op) Do(values ...G.Value) (G.Value, error) {
	in := make([][]float64, len(values))
	for i, v := range values {
		in[i] = toFloat64(v)
	}
	packed := make([]float32, o.out.TotalSize())
	for i, x := range o.run(in) {
		packed[i] = float32(x)
	}
	return tensor.New(tensor.WithShape(o.out...), tensor.WithBacking(packed)), nil
}

// run returns the outputs, packed one after the other.
func (o *Op) run(in [][]float64) []float64 {
	packed := make([]float64, o.out.TotalSize())
	outs := make([][]float64, len(o.spec.Outs))
	at := 0
	for i, out := range o.spec.Outs {
		n := out.Size()
		outs[i] = packed[at : at+n : at+n]
		at += n
	}
	o.ref(in, outs)
	return packed
}

func toFloat64(v G.Value) []float64 {
	switch data := v.Data().(type) {
	case []float32:
		out := make([]float64, len(data))
		for i, x := range data {
			out[i] = float64(x)
		}
		return out
	case []int32:
		out := make([]float64, len(data))
		for i, x := range data {
			out[i] = float64(x)
		}
		return out
	}
	panic(fmt.Sprintf("op: value of type %T", v.Data()))
}

// ReturnsPtr implements gorgonia.Op.
func (o *Op) ReturnsPtr() bool { return false }

// CallsExtern implements gorgonia.Op.
func (o *Op) CallsExtern() bool { return false }

// OverwritesInput implements gorgonia.Op.
func (o *Op) OverwritesInput() int { return -1 }

// WriteHash implements gorgonia.Op; the id keeps gorgonia from merging nodes.
func (o *Op) WriteHash(h hash.Hash) { fmt.Fprintf(h, "%s#%d%s", o.spec.Kernel, o.id, o.b.salt) }

// Hashcode implements gorgonia.Op. It is unique in a graph.
func (o *Op) Hashcode() uint32 { return o.id }

func (o *Op) String() string { return fmt.Sprintf("%s{%v}", o.spec.Kernel, o.spec.Attrs) }
