// Package scale predicts what a training step costs on many workers: its time, the
// memory of each, and what bounds it.
//
//	trace, err := scale.Plan(job, scale.H200())        // what one rank computes, in order
//	step, err := scale.Simulate(trace, job, scale.H200())
//
// The computation is not guessed: Plan lays the model's step out with the planner
// that a real run uses, on a backend without a device, and gives each kernel call
// the time that its operations and bytes need at the machine's measured rates.
// Measured traces, from a profile, take the same way. Simulate then lets the calls
// and the network run beside each other:
//
//   - A gradient leaves for the reduction when the last call that writes it is done,
//     in buckets, while the backward pass goes on.
//   - An exchange of tokens between experts stops the computation until the rows
//     have arrived. It goes before the reduction, which waits.
//   - After the backward pass the rest of the reduction is waited for, then comes
//     the optimiser (a shard of it with ZeRO-1), then the gathering of the weights.
//
// Every operation between ranks takes Machine.Start before it moves anything.
//
// A ring of N ranks moves 2(N-1)/N of the data of an all-reduce and takes 2(N-1)
// latencies; a reduce-scatter or an all-gather half of both. See package parallel.
//
// # Limits
//
// Expert loads are taken as equal, ranks as equally fast, links as free of other
// traffic. docs/scaling.md compares predictions with measured runs.
package scale
