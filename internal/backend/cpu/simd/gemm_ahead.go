package simd

import "unsafe"

// region is a rows x columns part of a matrix with rows ld floats apart.
type region struct {
	data              []float32
	ld, rows, columns int
}

// regionA is rows [i0, i1) of A by columns [k0, k1), as they are stored.
func (g *Gemm) regionA(i0, i1, k0, k1 int) region {
	if g.A.Trans {
		return region{g.A.Data[k0*g.A.Ld+i0:], g.A.Ld, k1 - k0, i1 - i0}
	}
	return region{g.A.Data[i0*g.A.Ld+k0:], g.A.Ld, i1 - i0, k1 - k0}
}

// regionB is columns [j0, j1) of B by rows [k0, k1), as they are stored.
func (g *Gemm) regionB(j0, j1, k0, k1 int) region {
	if g.B.Trans {
		return region{g.B.Data[j0*g.B.Ld+k0:], g.B.Ld, j1 - j0, k1 - k0}
	}
	return region{g.B.Data[k0*g.B.Ld+j0:], g.B.Ld, k1 - k0, j1 - j0}
}

// kTurn is how many k a microkernel does between one line that it prefetches and the next.
const kTurn = 4

// ahead is memory that the calls of a microkernel prefetch, a line with each turn of kTurn k: what later calls will
// read. Asked for all at once, the lines would hold up the loads of the call, which share the buffers for misses.
// Addresses are no pointers, as they may run past the end of the memory.
type ahead struct {
	at      uintptr // the next line
	step    int     // bytes from a line to the next of this column of lines
	left    int     // lines of this column that are left
	start   uintptr // first line of this column
	lines   int     // lines of a column
	columns int     // columns from this one on, 0 for nothing left
}

// lineBytes is the size of a line of the cache.
const lineBytes = 64

// set makes a the lines of r.
func (a *ahead) set(r region) {
	a.columns = 0
	if r.rows <= 0 || r.columns <= 0 {
		return
	}
	first := uintptr(unsafe.Pointer(&r.data[0]))
	skew := int(first % lineBytes)
	a.start = first - uintptr(skew)
	lines := func(floats int) int { return (skew + 4*floats + lineBytes - 1) / lineBytes }
	if r.ld == r.columns || r.rows == 1 { // all in order
		a.step, a.lines, a.columns = lineBytes, lines(r.rows*r.columns), 1
	} else {
		a.step, a.lines, a.columns = 4*r.ld, r.rows, lines(r.columns)
	}
	a.at, a.left = a.start, a.lines
}

// calls is how many calls of a microkernel take all lines, n at a time at most.
func (a *ahead) calls(n int) int { return a.columns * ((a.lines + n - 1) / max(n, 1)) }
