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
	if g.simple(ws, i0, i1, p0, p1) {
		return
	}
	t := tile{Gemm: *g, ws: ws, i0: i0, i1: i1, p0: p0, p1: p1, packed: packed, base: base, depth: g.K}
	for k0 := 0; k0 < g.K; k0 += g.blockK() {
		t.column(k0, min(k0+g.blockK(), g.K))
	}
}

// Compute is Tile for panels that nobody has packed: it packs each just before its first use.
func (g *Gemm) Compute(ws *Workspace, i0, i1, p0, p1 int) {
	if g.simple(ws, i0, i1, p0, p1) {
		return
	}
	kc := g.blockK()
	step := max(1, packedFloats/(min(kc, g.K)*PanelColumns()))
	for p := p0; p < p1; p += step {
		t := tile{Gemm: *g, ws: ws, i0: i0, i1: i1, p0: p, p1: min(p+step, p1), base: p, pack: g.method() == inPanels}
		for k0 := 0; k0 < g.K; k0 += kc {
			k1 := min(k0+kc, g.K)
			t.depth, t.from = k1-k0, k0
			if t.pack {
				last, _, stored := g.panel(t.p1 - 1)
				ws.b = grow(ws.b, (last+stored-p*PanelColumns())*t.depth)
				t.packed = ws.b
			}
			t.column(k0, k1)
		}
	}
}

// packedFloats is the size of the panels that Compute packs for a block of K, at least one: 1 MB, to stay in the
// cache.
const packedFloats = 1 << 18

// simple computes a tile that needs no panels and reports whether it has.
func (g *Gemm) simple(ws *Workspace, i0, i1, p0, p1 int) bool {
	switch {
	case i0 >= i1 || p0 >= p1:
	case g.K == 0:
		g.clear(i0, i1, p0, p1)
	case g.method() == dotProds:
		g.dotTile(ws, i0, i1, p0, p1)
	default:
		return false
	}
	return true
}

// cut returns the range of part q when n is cut into parts that differ by one at most.
func cut(n, parts, q int) (start, end int) { return n * q / parts, n * (q + 1) / parts }

// blockK cuts K evenly into blocks of at most blockK, or transposedK.
func (g *Gemm) blockK() int {
	most := blockK
	if g.A.Trans && g.N <= transposedColumns {
		most = transposedK
	}
	n := (g.K + most - 1) / most
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

// operandA is where the microkernels read A in a block: element (i, k) is data[i*row + k*col]; or, with panels, panel
// after panel of the block's rows, each with the rows of one k next to each other.
type operandA struct {
	data     []float32
	row, col int
	inPlace  bool
	panels   bool
}

// tile is a part of C in the making.
type tile struct {
	Gemm
	ws             *Workspace
	i0, i1, p0, p1 int

	packed []float32 // panels from base on, rows [from, from+depth) of B
	base   int
	from   int
	depth  int
	pack   bool // they are yet to be packed

	m microkernel
}

// column adds the part of k in [k0, k1), by blocks of rows.
func (t *tile) column(k0, k1 int) {
	n := (t.i1 - t.i0 + blockRows - 1) / blockRows
	for q := range n {
		r0, r1 := cut(t.i1-t.i0, n, q)
		t.block(t.i0+r0, t.i0+r1, k0, k1)
	}
}

// block computes rows [i0, i1), at most blockRows.
func (t *tile) block(i0, i1, k0, k1 int) {
	rows, parts := i1-i0, rowPanels(i1-i0)
	a := t.operandA(t.ws, i0, i1, k0, k1)
	inPlace, unread := t.method() == inPlace, i0 == t.i0 && a.inPlace && !t.A.Trans
	t.m = microkernel{kc: k1 - k0, ars: a.row, acs: a.col, whole: !inPlace, ldc: t.LdC, add: t.Accumulate || k0 > 0}
	m := &t.m
	for p := t.p0; p < t.p1; p++ {
		start, columns, stored := t.panel(p)
		m.cols, m.ldb = columns, stored
		if inPlace {
			m.b, m.ldb = t.B.Data[k0*t.B.Ld+start:], t.B.Ld
		} else {
			m.b = t.packed[t.packedAt(start, k0, stored):]
			if t.pack && i0 == t.i0 {
				t.packPanel(m.b, start, columns, stored, k0, k1)
			}
		}
		t.lookAhead(p, i0, i1, k0, k1)
		for q := range parts {
			r0, r1 := cut(rows, parts, q)
			m.rows = r1 - r0
			m.a = a.data[r0*a.row:]
			if a.panels {
				m.a, m.acs = a.data[r0*m.kc:], m.rows
			}
			if unread && p == t.p0 && i0+r1 < t.i1 {
				m.ahead[0].set(t.regionA(i0+r1, min(i0+r1+m.rows, t.i1), k0, k1))
			}
			m.c = t.C[(i0+r0)*t.LdC+start:]
			m.run()
		}
	}
}

// packedAt is where row k of the panel from column start on, of stored columns, is packed.
func (t *tile) packedAt(start, k, stored int) int {
	return (start-t.base*PanelColumns())*t.depth + (k-t.from)*stored
}

// packPanel copies rows [k0, k1) of a panel.
func (t *tile) packPanel(dst []float32, start, columns, stored, k0, k1 int) {
	if t.B.Trans {
		packTransposed(dst, stored, t.B.Data[start*t.B.Ld+k0:], t.B.Ld, columns, k1-k0)
	} else {
		packColumns(dst, stored, t.B.Data[k0*t.B.Ld+start:], t.B.Ld, columns, k1-k0)
	}
}

// lookAhead chooses what to prefetch while panel p of a block is computed: the next panel, which may have been packed
// long ago or is yet to be; and, during the last panels, the rows of A for the next block.
func (t *tile) lookAhead(p, i0, i1, k0, k1 int) {
	if p+1 < t.p1 {
		start, columns, stored := t.panel(p + 1)
		if first := i0 == t.i0; t.method() == inPlace || t.pack && first {
			if first {
				t.m.ahead[1].set(t.regionB(start, start+columns, k0, k1))
			}
		} else {
			at := t.packedAt(start, k0, stored)
			t.m.ahead[1].set(region{t.packed[at:], stored, k1 - k0, stored})
		}
	}
	var next ahead
	switch {
	case i1 < t.i1:
		next.set(t.regionA(i1, min(2*i1-i0, t.i1), k0, k1))
	case k1 < t.K:
		next.set(t.regionA(t.i0, t.i0+min(blockRows, t.i1-t.i0), k1, min(2*k1-k0, t.K)))
	}
	if panels := next.calls((k1-k0)/kTurn)/rowPanels(i1-i0) + 1; p == max(t.p1-panels, t.p0) {
		t.m.ahead[0] = next
	}
}

func rowPanels(rows int) int { return (rows + tiling[current].rows - 1) / tiling[current].rows }

// operandA finds the part of A that a block needs. It is read where it is, unless its rows fall into the same sets of
// the cache, which would not hold those of a microkernel: then they are copied to rows that do not. A transposed A is
// always copied, unless there are few columns to use it for: a microkernel would take one line or two of each of its
// rows, which lie in many pages and few sets.
func (g *Gemm) operandA(ws *Workspace, i0, i1, k0, k1 int) operandA {
	rows, kc, ld := i1-i0, k1-k0, g.A.Ld
	switch {
	case g.A.Trans && g.N <= transposedColumns:
		return operandA{data: g.A.Data[k0*ld+i0:], row: 1, col: ld, inPlace: true}
	case g.A.Trans:
		ws.a = grow(ws.a, rows*kc)
		packRowPanels(ws.a, g.A.Data[k0*ld+i0:], ld, rows, kc)
		return operandA{data: ws.a, row: 1, panels: true}
	case ld%aliasing != 0 || g.N <= directColumns || rows == 1:
		return operandA{data: g.A.Data[i0*ld+k0:], row: ld, col: 1, inPlace: true}
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
