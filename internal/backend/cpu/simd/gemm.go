package simd

import "fmt"

// Mat is an operand of a product: the row-major matrix Data with rows Ld floats apart, or, with Trans, its
// transpose.
type Mat struct {
	Data  []float32
	Ld    int
	Trans bool
}

// Gemm is the product C[M,N] = A[M,K] B[K,N], or C += A B with Accumulate. C has rows LdC floats apart and must
// not overlap A or B.
//
// It is computed in tiles, by Run, or by several workers with Compute (or Pack and Tile). Columns come in panels (see
// Panels); a tile is a range of rows by a range of panels. Every element of C is a sum over K in an order that follows
// from M, N and K alone, so the bits do not depend on the tiles.
type Gemm struct {
	M, N, K    int
	A, B       Mat
	C          []float32
	LdC        int
	Accumulate bool
	// InPlace reads an untransposed B where it is, instead of copying it to panels, whatever its shape. Its rows must
	// have memory up to a multiple of 16 floats.
	InPlace bool
}

// Blocking. A block of K is what one pass over C covers: its panel of B and its rows of A stay in the caches.
const (
	blockK    = 512
	blockRows = 168 // rows of A that the cache holds with them, a multiple of 14 and 6
	// Up to dotRows rows, A times a transposed B is computed as dot products, without packing.
	dotRows = 8
	// Rows of A that are a multiple of aliasing floats apart share sets of the cache: they are copied, unless there are
	// at most directColumns columns to use the copy for.
	aliasing      = 1024
	directColumns = 64
	// Up to transposedColumns columns, a transposed A is used too little to be worth a copy.
	transposedColumns = 32
	// Then a block of K is smaller: every microkernel takes a line or two of each of its rows of A, most of which the
	// next one takes again.
	transposedK = 128
	// Packing B goes through its rows packRows at a time, all columns of each, and prefetches the next as many.
	packRows = 8
	// Columns of a transposed operand that packing goes through at a time, all rows of each.
	packColumnsTransposed = 512
	// A copy of A has rows aPad floats further apart than they need, so that they fall into different sets of
	// the cache.
	aPad = 16
)

// method is how a product gets at B. It is a function of the shape alone.
type method int

const (
	inPanels method = iota // B is copied to panels
	inPlace                // B is read where it is
	dotProds               // rows of A times rows of the stored B
)

func (g *Gemm) method() method {
	switch {
	case g.InPlace:
		return inPlace
	case g.B.Trans && !g.A.Trans && g.M <= dotRows:
		return dotProds
	case !g.B.Trans && g.N%PanelColumns() == 0 && g.B.Ld < aliasing: // panels of whole vectors that the cache holds
		return inPlace
	case current == levelAVX512 && !g.B.Trans && g.M <= tiling[levelAVX512].rows:
		return inPlace
	}
	return inPanels
}

// tiling is the shape of a level's largest microkernel.
var tiling = [...]struct{ rows, columns int }{
	levelGo:     {rows: 4, columns: 4},
	levelAVX2:   {rows: 6, columns: 16},
	levelAVX512: {rows: 14, columns: 32},
}

// Panels is the number of column panels. All have PanelColumns columns but the last, which may have half of it
// more or any number less.
func (g *Gemm) Panels() int {
	w := PanelColumns()
	full, rest := g.N/w, g.N%w
	if rest == 0 || current == levelAVX512 && full > 0 && rest <= w/2 {
		return full
	}
	return full + 1
}

// PanelColumns is the distance between the first columns of two panels, at the current level.
func PanelColumns() int { return tiling[current].columns }

// panel returns the first column of panel p, the number of its columns, and the number it has when packed.
func (g *Gemm) panel(p int) (start, columns, stored int) {
	w := PanelColumns()
	start = p * w
	columns = w
	if p == g.Panels()-1 {
		columns = g.N - start
	}
	if current == levelAVX512 {
		return start, columns, (columns + 15) / 16 * 16
	}
	return start, columns, w
}

// PackedLen is the number of floats that Pack writes for panels [p0, p1); 0 for a product that reads B in place.
func (g *Gemm) PackedLen(p0, p1 int) int {
	if p0 == p1 || g.method() != inPanels {
		return 0
	}
	last, _, stored := g.panel(p1 - 1)
	first := p0 * PanelColumns()
	return (last + stored - first) * g.K
}

// Pack copies panels [p0, p1) of B to dst, of PackedLen(p0, p1) floats, in the order the kernels read them.
func (g *Gemm) Pack(dst []float32, p0, p1 int) { g.PackPart(dst, p0, p1, 0, 1) }

// PackPart is a part of what Pack does, one of a number of parts that may be done at the same time.
func (g *Gemm) PackPart(dst []float32, p0, p1, part, parts int) {
	if g.method() != inPanels || g.K == 0 {
		return
	}
	if g.B.Trans {
		first, end := cut(p1-p0, parts, part)
		for k := 0; k < g.K; k += packColumnsTransposed {
			rows := min(packColumnsTransposed, g.K-k)
			for p := p0 + first; p < p0+end; p++ {
				start, columns, stored := g.panel(p)
				packTransposed(dst[g.packedAt(p0, start, k, stored):], stored, g.B.Data[start*g.B.Ld+k:], g.B.Ld, columns, rows)
			}
		}
		return
	}
	first, end := cut(g.K, parts, part)
	for k := first; k < end; k += packRows {
		rows := min(packRows, end-k)
		for p := p0; p < p1; p++ {
			start, columns, stored := g.panel(p)
			packColumns(dst[g.packedAt(p0, start, k, stored):], stored, g.B.Data[k*g.B.Ld+start:], g.B.Ld, columns, rows)
		}
	}
}

// packedAt is where row k of the panel from column start on, of stored columns, is packed behind panel p0.
func (g *Gemm) packedAt(p0, start, k, stored int) int {
	return (start-p0*PanelColumns())*g.K + k*stored
}

// Check reports an operand that is too short for its shape.
func (g *Gemm) Check() error {
	if g.M < 0 || g.N < 0 || g.K < 0 {
		return fmt.Errorf("%w: product of %d x %d x %d", ErrShape, g.M, g.K, g.N)
	}
	if g.M == 0 || g.N == 0 {
		return nil
	}
	for _, m := range []struct {
		name          string
		mat           Mat
		rows, columns int
	}{{"A", g.A, g.M, g.K}, {"B", g.B, g.K, g.N}, {"C", Mat{Data: g.C, Ld: g.LdC}, g.M, g.N}} {
		rows, columns := m.rows, m.columns
		if m.mat.Trans {
			rows, columns = columns, rows
		}
		if rows > 0 && columns > 0 && (m.mat.Ld < columns || len(m.mat.Data) < (rows-1)*m.mat.Ld+columns) {
			return fmt.Errorf("%w: %s is %d x %d with rows %d apart, but has %d elements",
				ErrShape, m.name, rows, columns, m.mat.Ld, len(m.mat.Data))
		}
	}
	return nil
}

// Run computes the whole product on the calling goroutine.
func (g *Gemm) Run(ws *Workspace) {
	if g.M == 0 || g.N == 0 {
		return
	}
	if err := g.Check(); err != nil {
		panic(err)
	}
	g.Compute(ws, 0, g.M, 0, g.Panels())
}
