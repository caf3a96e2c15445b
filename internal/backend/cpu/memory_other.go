//go:build !linux

package cpu

import "math"

// hostMemory is the memory that this process may have; it is not known here.
func hostMemory() int64 { return math.MaxInt64 }

func adviseHuge(*memory) {}
