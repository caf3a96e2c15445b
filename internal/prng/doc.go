// Package prng generates random numbers that are the same on every platform, in
// every version of this program and for any number of threads.
//
// A generator is named: New(seed, "init/layers.0.mamba.in_proj") always yields
// the same sequence, whatever other generators exist and in whichever order they
// are used. So give each use a name of its own, and make everything random a
// pure function of the seed and of what it is for:
//
//	r := prng.New(cfg.Seed, "init/"+name)
//	for i := range weights {
//		weights[i] = float32(0.02 * r.Normal())
//	}
//
// The source is Philox-4x64-10 (Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3", SC 2011): a counter enciphered under a key, which here is a hash of
// seed and name. Sequences of different names share nothing.
//
// # Invariants
//
// Values never change: golden tests hold the bits. Floating-point results avoid
// the math library and forbid fused multiply-adds, so that they are the same bits
// on every processor. A generator is not safe for concurrent use; make one per
// goroutine, with its own name.
//
// # Failures
//
// IntN and Perm panic on a size they cannot serve (a programmer's error); nothing
// else can fail.
package prng
