//go:build !amd64

package simd

func (m *microkernel) run() { m.runGo() }

func copyStrip(dst []float32, stored int, src []float32, ld, columns, kc int) {
	copyStripGo(dst, stored, src, ld, columns, kc)
}

func transposeStrip(dst []float32, stored int, src []float32, ld, columns, kc int) {
	transposeStripGo(dst, stored, src, ld, columns, 0, kc)
}

func dotRowsAtOnce() int { return 4 }

func dots(k int, x []float32, ldx, rows int, w []float32, ldw, n int, out *[16]float32) {
	dotsGo(k, x, ldx, rows, w, ldw, n, out)
}
