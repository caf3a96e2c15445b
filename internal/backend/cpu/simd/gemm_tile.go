package simd

import "unsafe"

// Workspace is the memory one worker needs for packing. It grows to what the largest product asks for and is
// then reused. The zero value is ready.
type Workspace struct {
	a, b []float32
	out  [16]float32
}

// grow returns a slice of n floats that starts on a cache line.
func grow(s []float32, n int) []float32 {
	if cap(s) >= n {
		return s[:n]
	}
	const line = 16
	s = make([]float32, n+line)
	skip := int(-uintptr(unsafe.Pointer(&s[0])) % (4 * line) / 4)
	return s[skip : skip+n]
}

// Tile computes rows [i0, i1) of panels [p0, p1) of C. packed holds what Pack wrote for panels from base on.
// Tiles that do not overlap may be computed at the same time, each with a workspace of its own.
func (g *Gemm) Tile(ws *Workspace, packed []float32, base, i0, i1, p0, p1 int) {
	if i0 >= i1 || p0 >= p1 {
		return
	}
	if g.K == 0 {
		g.clear(i0, i1, p0, p1)
		return
	}
	if g.method() == dotProds {
		g.dotTile(ws, i0, i1, p0, p1)
		return
	}
	kc, blocks := g.blockK(), (i1-i0+blockRows-1)/blockRows
	for q := range blocks {
		r0, r1 := cut(i1-i0, blocks, q)
		for k0 := 0; k0 < g.K; k0 += kc {
			g.block(ws, packed, base, i0+r0, i0+r1, p0, p1, k0, min(k0+kc, g.K))
		}
	}
}

// cut returns the range of part q when n is cut into parts that differ by one at most.
func cut(n, parts, q int) (start, end int) { return n * q / parts, n * (q + 1) / parts }

// blockK cuts K evenly into blocks of at most blockK.
func (g *Gemm) blockK() int {
	n := (g.K + blockK - 1) / blockK
	return ((g.K+n-1)/n + 15) / 16 * 16
}

func (g *Gemm) clear(i0, i1, p0, p1 int) {
	if g.Accumulate {
		return
	}
	first, _, _ := g.panel(p0)
	last, columns, _ := g.panel(p1 - 1)
	for i := i0; i < i1; i++ {
		clear(g.C[i*g.LdC+first : i*g.LdC+last+columns])
	}
}

// operandA is where the microkernels read A in a block: element (i, k) is data[i*row + k*col]; or, if panels is
// set, panel after panel of the block's rows, each with the rows of one k next to each other.
type operandA struct {
	data     []float32
	row, col int
	panels   bool
}

// block computes a tile of at most blockRows rows over k in [k0, k1).
func (g *Gemm) block(ws *Workspace, packed []float32, base, i0, i1, p0, p1, k0, k1 int) {
	rows, parts := i1-i0, rowPanels(i1-i0)
	a := g.operandA(ws, i0, i1, k0, k1)
	inPlace := g.method() == inPlace
	m := microkernel{kc: k1 - k0, ars: a.row, acs: a.col, whole: !inPlace, ldc: g.LdC, add: g.Accumulate || k0 > 0}
	for p := p0; p < p1; p++ {
		start, columns, stored := g.panel(p)
		m.cols, m.ldb = columns, stored
		if inPlace {
			m.b, m.ldb = g.B.Data[k0*g.B.Ld+start:], g.B.Ld
		} else {
			m.b = packed[g.packedAt(base, start, k0, stored):]
		}
		for q := range parts {
			r0, r1 := cut(rows, parts, q)
			m.rows = r1 - r0
			if a.panels {
				m.a, m.acs = a.data[r0*m.kc:], m.rows
			} else {
				m.a = a.data[r0*a.row:]
			}
			m.c = g.C[(i0+r0)*g.LdC+start:]
			m.run()
		}
	}
}

func rowPanels(rows int) int { return (rows + tiling[current].rows - 1) / tiling[current].rows }

// operandA finds or copies the part of A that a block needs.
func (g *Gemm) operandA(ws *Workspace, i0, i1, k0, k1 int) operandA {
	rows, kc, ld := i1-i0, k1-k0, g.A.Ld
	narrow := g.N <= directColumns || rows == 1
	if g.A.Trans {
		if narrow {
			return operandA{data: g.A.Data[k0*ld+i0:], row: 1, col: ld}
		}
		parts := rowPanels(rows)
		ws.a = grow(ws.a, rows*kc)
		for k := 0; k < kc; k += packRows {
			for q := range parts {
				r0, r1 := cut(rows, parts, q)
				copyStrip(ws.a[r0*kc+k*(r1-r0):], r1-r0, g.A.Data[(k0+k)*ld+i0+r0:], ld, r1-r0, min(packRows, kc-k))
			}
		}
		return operandA{data: ws.a, row: 1, panels: true}
	}
	if narrow {
		return operandA{data: g.A.Data[i0*ld+k0:], row: ld, col: 1}
	}
	stride := (kc+15)/16*16 + aPad
	if stride%32 == 0 {
		stride += 16
	}
	ws.a = grow(ws.a, rows*stride)
	for i := range rows {
		copy(ws.a[i*stride:i*stride+kc], g.A.Data[(i0+i)*ld+k0:])
	}
	return operandA{data: ws.a, row: stride, col: 1}
}

// dotTile computes a tile of a product with few rows as dot products of rows of A and stored rows of B, four of
// B at a time, so that B is read once and in order.
func (g *Gemm) dotTile(ws *Workspace, i0, i1, p0, p1 int) {
	first, _, _ := g.panel(p0)
	last, columns, _ := g.panel(p1 - 1)
	end := last + columns
	for j := first; j < end; j += 4 {
		n := min(4, end-j)
		for i := i0; i < i1; {
			rows := min(i1-i, dotRowsAtOnce())
			dots(g.K, g.A.Data[i*g.A.Ld:], g.A.Ld, rows, g.B.Data[j*g.B.Ld:], g.B.Ld, n, &ws.out)
			for r := range rows {
				c := g.C[(i+r)*g.LdC+j:][:n]
				for jj := range c {
					if g.Accumulate {
						c[jj] += ws.out[4*r+jj]
					} else {
						c[jj] = ws.out[4*r+jj]
					}
				}
			}
			i += rows
		}
	}
}
