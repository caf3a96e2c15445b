package engine

import (
	"fmt"
	"strings"
)

// Class says how a value is stored, before the plan chooses a type for it.
type Class uint8

const (
	// Act is an activation, a weight or the gradient of one: stored in the
	// plan's compute type (fp32 or bf16).
	Act Class = iota
	// F32 is always stored in fp32: statistics, router, scan states, losses.
	F32
	// I32 is an integer: token and document ids, routing indices.
	I32
)

// Attr is one named attribute of an operator.
type Attr struct {
	Name  string
	Value float64
}

// Attrs are the attributes of an operator: everything besides the shapes that
// changes its meaning. Integers up to 2^53 are exact.
type Attrs []Attr

// Lookup returns the attribute and whether it is there.
func (a Attrs) Lookup(name string) (float64, bool) {
	for _, x := range a {
		if x.Name == name {
			return x.Value, true
		}
	}
	return 0, false
}

// Float returns an attribute; it panics if the operator does not have it.
func (a Attrs) Float(name string) float64 {
	v, ok := a.Lookup(name)
	if !ok {
		panic(fmt.Sprintf("engine: no attribute %q in %v", name, a))
	}
	return v
}

// Int returns an attribute as an integer.
func (a Attrs) Int(name string) int { return int(a.Float(name)) }

// Bool returns whether an attribute is there and not zero.
func (a Attrs) Bool(name string) bool {
	v, _ := a.Lookup(name)
	return v != 0
}

func (a Attrs) String() string {
	parts := make([]string, len(a))
	for i, x := range a {
		parts[i] = fmt.Sprintf("%s=%g", x.Name, x.Value)
	}
	return strings.Join(parts, " ")
}

// Out describes one output of an operator.
type Out struct {
	Shape []int
	Class Class
	// InPlace lists the inputs whose memory the output may take when it is of
	// the same size and nothing reads the input later.
	InPlace []int
	// Updates is 1 + the index of an input that this output overwrites: a state
	// tensor (a cache) that the operator advances in place. 0 means none.
	Updates int
	// Keep marks an output that is never computed again in the backward pass:
	// it is small, dear, or the boundary of a layer.
	Keep bool
}

// Size is the number of elements.
func (o Out) Size() int { return Size(o.Shape) }

// Kind tells instructions that compute from nodes that only name memory.
type Kind uint8

const (
	// Compute runs a kernel.
	Compute Kind = iota
	// Part names output Index of an operator with several outputs.
	Part
	// Slice names a range of its input's elements, starting at element Index.
	Slice
)

// Spec is what the engine knows of an operator.
type Spec struct {
	Kind   Kind
	Kernel string // for Compute: the key in the backend's table
	Attrs  Attrs
	Outs   []Out
	Index  int // for Part and Slice

	// Layer is 1 + the decoder layer the operator belongs to, 0 outside; it is
	// the unit of recomputation.
	Layer int
	// Backward marks operators that the gradient created.
	Backward bool
	// Cheap marks operators that move memory rather than compute: selective
	// recomputation runs just these again.
	Cheap bool
	// Exchange marks operators in which ranks exchange data: a plan is cut
	// before and after them, so that device graphs cover the pieces between.
	Exchange bool
}

// Lowerable is implemented by the operators of the graph.
type Lowerable interface {
	Lower() Spec
}

// Size returns the number of elements of a shape.
func Size(shape []int) int {
	n := 1
	for _, d := range shape {
		n *= d
	}
	return n
}
