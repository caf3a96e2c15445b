// Package parallel makes many workers train one model: the mesh of ranks and what
// each of them owns, the collectives they meet in, and the reduction of gradients
// while the backward pass goes on.
//
//	mesh := cfg.Mesh()                                  // data x expert
//	world, err := parallel.NewGroup(transport, "dense", mesh.World(), options)
//	column, err := parallel.NewGroup(transport, "expert", mesh.Along(parallel.AxisData, rank), options)
//	err = world.AllReduce(ctx, parallel.Op{Step: step, Name: "norm"}, x)
//
// A Transport carries messages between the ranks of one generation: inproc between
// goroutines, rpc between processes. The collectives are written once, over it; see
// ring.go, and pairs.go for sums in a tree. A Reducer runs those of a step's gradients while backward goes on. NCCL has
// collectives of its own and implements Group itself. Package paralleltest holds them
// all to the same.
//
// # Invariants
//
// An all-reduce gives every rank the same bits, run after run: the order of a sum
// depends on the number of ranks and the cut of the data only, never on arrival; in a
// tree on the number of ranks alone.
//
// Every message carries run, generation, step, operation and chunk, and the size of
// what it is a part of. Ranks that have come to do different things find out by
// ErrMismatch instead of adding up the wrong numbers.
//
// The collectives hold a few chunks in memory beside the caller's data, whatever
// its size.
//
// # Failure
//
// A rank that fails, is cancelled or waits too long ends the generation: all ranks
// get an error that names the first one and the operation it was in, and every later
// operation fails the same way. Ranks then meet in a new generation, with new
// transports and groups. A message of another generation is refused with
// ErrGeneration, on both sides.
package parallel
