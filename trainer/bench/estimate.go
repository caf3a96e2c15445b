package bench

import "jambalaya/internal/engine"

// WorkOf counts the operations that a kernel call needs, and the bytes of its
// operands and results.
func WorkOf(c *engine.Call) (flops, bytes float64) {
	w := workOf(c)
	return w.flops, w.bytes
}
