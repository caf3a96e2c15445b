// Package solo builds programs of one operator and its gradient at a chosen
// shape, for measuring a backend's kernels outside of a model:
//
//	p, err := solo.Scan(4, 256, 512, 16)
//	plan, err := engine.NewPlan(p.Program, backend, engine.Options{})
//
// Every float input may be filled with anything in [0, 1): no operator here fails
// or slows down on it. Integer inputs want values below Program.Below. A shape
// that an operator does not take panics, as in package op.
package solo
