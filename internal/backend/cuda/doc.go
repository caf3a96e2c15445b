// Package cuda runs plans on one NVIDIA GPU, without cgo and without a compiler
// on the machine that builds the program.
//
// New loads NVIDIA's libraries when the program runs: the driver (libcuda), NVRTC
// to compile kernels and cuBLASLt for plain matrix products. The kernels are the
// .cu files in the directory kernels, embedded in the program. Each is compiled
// for the device at hand and for the types and constants of its use (macros name
// how every tensor is stored, float or bf16), when a plan is made, and kept in the
// user's cache directory:
//
//	be, err := cuda.New(0)
//	if errors.Is(err, cuda.ErrUnavailable) {
//		... // the processor will do
//	}
//	plan, err := engine.NewPlan(program, be, engine.Options{})
//
// # Adding a kernel
//
// An operator is a function of args, registered by name (see kernel.go): it takes
// inputs, outputs and scratch memory, and lists the launches that a step makes.
// It runs twice, once before tensors have memory, to learn how much scratch it
// needs. Arguments of a launch are checked against the signature in the source,
// also on the dry backend (NewDry), so that a machine without a GPU finds most
// mistakes.
//
// # Invariants
//
// The same inputs give the same bits on the same device with the same libraries:
// sums have a fixed order, floats are never added atomically, the cuts of a sum
// depend on shapes alone, and the algorithm of a matrix product is the library's
// first choice for its shape (Algorithms lists them, Path names the rest). fp32
// is fp32: no TF32. Indices are 64-bit. Everything runs on one stream; a step
// starts kernels, allocates nothing and never waits. What only the device knows,
// the rows of each expert, stays there.
//
// # Failures
//
// A missing library or driver, no device or an old one: ErrUnavailable, with what
// to install. ErrOutOfMemory says how much was asked for. Data that a kernel
// cannot take (a token outside the vocabulary) is noted by the kernel, which goes
// on with something harmless, and returned by the next Sync or Read as ErrData.
// A fault of the device is ErrDevice; nothing works after it.
package cuda
