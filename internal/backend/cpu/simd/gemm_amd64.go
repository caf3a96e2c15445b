package simd

import "unsafe"

// A gemmKernel is the assembly of a microkernel for some number of rows. Strides are in bytes.
type gemmKernel func(turns, rest int64, a *float32, ars, acs int64, b *float32, ldb int64, c *float32, ldc, cols, acc int64,
	ahead0 uintptr, step0 int64, ahead1 uintptr, step1 int64, last0 uintptr)

// Kernels by number of rows. There are AVX-512 kernels of one, two and three vectors of columns.
var (
	gemmAVX512 = [...][]gemmKernel{
		{nil, gemm1x16AVX512, gemm2x16AVX512, gemm3x16AVX512, gemm4x16AVX512, gemm5x16AVX512, gemm6x16AVX512,
			gemm7x16AVX512, gemm8x16AVX512, gemm9x16AVX512, gemm10x16AVX512, gemm11x16AVX512, gemm12x16AVX512,
			gemm13x16AVX512, gemm14x16AVX512},
		{nil, gemm1x32AVX512, gemm2x32AVX512, gemm3x32AVX512, gemm4x32AVX512, gemm5x32AVX512, gemm6x32AVX512,
			gemm7x32AVX512, gemm8x32AVX512, gemm9x32AVX512, gemm10x32AVX512, gemm11x32AVX512, gemm12x32AVX512,
			gemm13x32AVX512, gemm14x32AVX512},
		{nil, gemm1x48AVX512, gemm2x48AVX512, gemm3x48AVX512, gemm4x48AVX512, gemm5x48AVX512, gemm6x48AVX512,
			gemm7x48AVX512, gemm8x48AVX512, gemm9x48AVX512},
	}
	gemmAVX2 = []gemmKernel{nil, gemm1x16AVX2, gemm2x16AVX2, gemm3x16AVX2, gemm4x16AVX2, gemm5x16AVX2, gemm6x16AVX2}
)

// run computes m at the current level.
func (m *microkernel) run() {
	switch current {
	case levelAVX512:
		kernels := gemmAVX512[(m.cols-1)/16]
		half := m.rows
		if half >= len(kernels) { // three vectors leave registers for nine rows
			half = (m.rows + 1) / 2
			m.call(kernels[m.rows-half], half, m.rows-half)
		}
		m.call(kernels[half], 0, half)
	case levelAVX2:
		m.call(gemmAVX2[m.rows], 0, m.rows)
	default:
		m.runGo()
	}
}

// call runs the kernel of n rows from row i on.
func (m *microkernel) call(kernel gemmKernel, i, n int) {
	add := int64(0)
	if m.add {
		add = 1
	}
	turns := 0
	if m.whole || m.cols%16 == 0 {
		turns = m.kc / kTurn
	}
	p0, s0, last0 := m.ahead[0].next(turns)
	p1, s1, _ := m.ahead[1].next(turns)
	kernel(int64(turns), int64(m.kc-kTurn*turns), &m.a[i*m.ars], int64(m.ars)*4, int64(m.acs)*4, &m.b[0], int64(m.ldb)*4,
		&m.c[i*m.ldc], int64(m.ldc)*4, int64(m.cols), add, p0, s0, p1, s1, last0)
}

// next takes up to n lines: the first at the address, the others a step apart up to last.
func (a *ahead) next(n int) (at uintptr, step int64, last uintptr) {
	if a.columns == 0 {
		at = uintptr(unsafe.Pointer(&nothing))
		return at, 0, at
	}
	at, step = a.at, int64(a.step)
	last = a.at + uintptr((a.left-1)*a.step)
	if a.left > n {
		a.left -= n
		a.at += uintptr(n * a.step)
		return at, step, last
	}
	a.columns--
	a.start += lineBytes
	a.at, a.left = a.start, a.lines
	return at, step, last
}

// nothing is what a call prefetches that has nothing to fetch.
var nothing [lineBytes]byte

// copyStrip is dst[k*stored + j] = src[k*ld + j] for j below columns (16 at most) and k below kc.
func copyStrip(dst []float32, stored int, src []float32, ld, columns, kc int) {
	switch {
	case current == levelAVX512:
		copy16AVX512(int64(kc), &src[0], int64(ld)*4, int64(columns), &dst[0], int64(stored)*4)
	case current == levelAVX2 && columns == 16:
		copy16AVX2(int64(kc), &src[0], int64(ld)*4, &dst[0], int64(stored)*4)
	default:
		copyStripGo(dst, stored, src, ld, columns, kc)
	}
}

// transposeStrip is dst[k*stored + j] = src[j*ld + k] for j below columns (16 at most) and k below kc.
func transposeStrip(dst []float32, stored int, src []float32, ld, columns, kc int) {
	switch {
	case current == levelAVX512:
		transpose16AVX512(int64(kc), &src[0], int64(ld)*4, int64(columns), &dst[0], int64(stored)*4)
	case current == levelAVX2 && kc >= 8:
		j := 0
		for ; j+8 <= columns; j += 8 {
			transpose8AVX2(int64(kc/8), &src[j*ld], int64(ld)*4, &dst[j], int64(stored)*4)
			transposeStripGo(dst[j:], stored, src[j*ld:], ld, 8, kc/8*8, kc)
		}
		if j < columns {
			transposeStripGo(dst[j:], stored, src[j*ld:], ld, columns-j, 0, kc)
		}
	default:
		transposeStripGo(dst, stored, src, ld, columns, 0, kc)
	}
}

// dotRowsAtOnce is the most rows dots takes.
func dotRowsAtOnce() int {
	if current == levelAVX2 {
		return 3
	}
	return 4
}

// dots is out[4*i + j] = x_i . w_j for rows rows of x and n of w, four at most each.
func dots(k int, x []float32, ldx, rows int, w []float32, ldw, n int, out *[16]float32) {
	k64, lx, lw, cols := int64(k), int64(ldx)*4, int64(ldw)*4, int64(n)
	switch int(current)<<4 + rows {
	case int(levelAVX512)<<4 + 1:
		dots1AVX512(k64, &x[0], lx, &w[0], lw, cols, out)
	case int(levelAVX512)<<4 + 2:
		dots2AVX512(k64, &x[0], lx, &w[0], lw, cols, out)
	case int(levelAVX512)<<4 + 3:
		dots3AVX512(k64, &x[0], lx, &w[0], lw, cols, out)
	case int(levelAVX512)<<4 + 4:
		dots4AVX512(k64, &x[0], lx, &w[0], lw, cols, out)
	case int(levelAVX2)<<4 + 1:
		dots1AVX2(k64, &x[0], lx, &w[0], lw, cols, out)
	case int(levelAVX2)<<4 + 2:
		dots2AVX2(k64, &x[0], lx, &w[0], lw, cols, out)
	case int(levelAVX2)<<4 + 3:
		dots3AVX2(k64, &x[0], lx, &w[0], lw, cols, out)
	default:
		dotsGo(k, x, ldx, rows, w, ldw, n, out)
	}
}
