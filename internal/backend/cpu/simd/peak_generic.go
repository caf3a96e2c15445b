//go:build !amd64

package simd

// PeakFMA measures vector units; there are no vector kernels on this architecture, so it does nothing and
// returns 0.
func PeakFMA(loops int) int { return 0 }
