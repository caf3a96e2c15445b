// Package op defines the operators of the model: one file each, with the
// equation, the shapes, the gradient and a plain reference.
//
// Operators are built with a Builder, which owns a gorgonia ExprGraph:
//
//	b := op.NewBuilder()
//	x := b.Input("x", 6, 4)
//	w := b.Param("w", 3, 4)
//	y := b.MatMul(x, w, false, true) // [6, 3]
//
// A node holds a tensor of float32 (or int32 for ids). Operators with several
// outputs are one node that packs them into a vector, and a Part node for each;
// the engine gives the parts memory of their own, and passes nil for those that
// nobody uses.
//
// # What an operator is
//
// Each is one value of type Op: the Spec that the engine lowers, a reference in
// float64 that is written for clarity, and a function that builds the gradient
// out of other operators. gorgonia calls that function once, in Gradients; the
// reference runs under gorgonia's TapeMachine, under Evaluate, and in the
// finite-difference tests. Backends are compared with it.
//
// # Invariants
//
// Every operator carries a unique id in its hash, as gorgonia merges nodes with
// equal hashes. Nothing but these operators enters the graph, besides the sums
// that gorgonia makes when a value has several gradients.
//
// # Failures
//
// Shapes that do not fit panic: they are mistakes of the model definition, not
// of its user, whose configuration has been validated.
//
// # Letters
//
// B batch, L length, T = B*L tokens, H hidden, D inner (Mamba), N states, R rank
// of delta, E experts, K chosen experts, S = T*K expert rows, I intermediate,
// V vocabulary. Node variables carry their shape as a suffix: xTH.
package op
