// Package engine turns an expression graph into a plan and runs it.
//
// The way of a training step:
//
//	graph (gorgonia, built by model) -> Lower -> Program -> NewPlan -> Plan -> Run
//
// Lower reads the graph and asks each operator, through Lowerable, for its Spec:
// the name of a kernel, its attributes and its outputs. A Program is the list of
// instructions in execution order and knows nothing of a device. NewPlan fits it
// to one Backend: it chooses how values are stored (fp32, or bf16 activations),
// which of them are computed a second time in the backward pass, and where each
// lives in a single arena; then it binds every kernel to its buffers. Run calls
// the bound kernels one after the other and allocates nothing.
//
// # Writing a backend
//
// A backend is memory plus a table of kernels (see Backend and Kernel). Bind is
// called once per instruction when a plan is made, with a Call that names the
// attributes and tensors; the function it returns runs in every step, must not
// allocate, and must not keep state that depends on the number of threads.
// Outputs that nobody uses are nil in Call.Out. Scratch that a kernel needs is
// declared by Kernel.Scratch, and lives in the arena only while the kernel runs.
//
// # Invariants
//
// Sizes, offsets and strides are 64-bit. A value has one definition. Values that
// share memory (views, in-place results, state that is updated) belong to one
// storage, whose life is the union of theirs. Nothing is written to a storage
// that a later instruction still reads, except through an alias that the
// operator declared; the no-reuse plan (Options.NoReuse) is the test of that.
//
// # Failures
//
// Lower and NewPlan return errors that name the node and the kernel. Programmer
// errors (an attribute that is not there, a shape that contradicts its Spec)
// panic.
package engine
