// Package cpu is the engine's backend for the processor: host memory, a
// persistent pool of workers, and SIMD kernels (package simd).
//
// A kernel is a file here and a serial routine in simd. The file says how the
// work is cut into tasks for the pool. Cuts depend on the shapes alone, never on
// the number of workers, and sums over rows are taken in fixed blocks that are
// added in a fixed order, so that results have the same bits on any machine of
// the same instruction set (Backend.Path says which one runs).
//
// Kernels are bound once: the function that Bind returns captures slices of the
// plan's arena and tasks made beforehand, and allocates nothing when it runs.
package cpu
