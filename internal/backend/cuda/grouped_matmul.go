package cuda

import "jambalaya/internal/engine"

func init() {
	register("grouped_matmul", groupedMatMul)
	register("grouped_matmul_dx", groupedMatMulDx)
	register("grouped_matmul_dw", groupedMatMulDw)
}

// grouped is a file of kernels for products by expert, and the tiles it computes.
type grouped struct {
	file
	x, w    *engine.Tensor
	rows    int // of a tile
	columns int
	shared  int // bytes
}

// hopper is the one generation that has the instructions of grouped_hopper.cu.
const hopper = 9

// newGrouped chooses the kernels: tensor cores for bf16 whose lines are whole
// pieces of 16 bytes, where the device has them. Operands get one type.
func newGrouped(a *args, x, w, y *engine.Tensor) grouped {
	if x.DType == engine.BFloat16 || w.DType == engine.BFloat16 {
		x, w = a.stored(x, engine.BFloat16), a.stored(w, engine.BFloat16)
	}
	if x.DType == engine.BFloat16 && a.b.device.major == hopper && pieces(x) && pieces(w) {
		const stages, align = 4, 1024
		g := grouped{x: x, w: w, rows: 128, columns: 256}
		g.shared = align + stages*2*64*(g.rows+g.columns)
		g.file = a.file("grouped_hopper", typed("Y", y))
		return g
	}
	return grouped{file: a.file("grouped", typed("X", x), typed("W", w), typed("Y", y)), x: x, w: w, rows: 128, columns: 128}
}

// pieces says whether the lines of a tensor of bf16 are aligned to 16 bytes.
func pieces(t *engine.Tensor) bool { return t.Dim(-1)%8 == 0 && t.Off%16 == 0 }

// grid has as many rows of tiles as any distribution over the experts needs.
func (g grouped) grid(columns, rows, experts int) grid {
	return grid{x: blocks(columns, g.columns), y: blocks(rows, g.rows) + experts, threads: blockThreads, shared: g.shared}
}

// groupedMatMul: y[s] = x[s] w[e]^T.
func groupedMatMul(a *args) {
	w, y := a.In[1], a.out(0)
	experts, n, k := w.Dim(0), w.Dim(1), w.Dim(2)
	g := newGrouped(a, a.In[0], w, y)
	g.launch("grouped", g.grid(n, y.Dim(0), experts), y, g.x, g.w, a.In[2], experts, n, k)
}

// groupedMatMulDx: dx[s] = dy[s] w[e].
func groupedMatMulDx(a *args) {
	w, dx := a.In[1], a.out(0)
	experts, n, k := w.Dim(0), w.Dim(1), w.Dim(2)
	g := newGrouped(a, a.In[0], w, dx)
	g.launch("grouped_dx", g.grid(k, dx.Dim(0), experts), dx, g.x, g.w, a.In[2], experts, n, k)
}

// groupedMatMulDw: dw[e] = sum over its rows of dy[s]^T x[s], added to dw with
// accumulate.
func groupedMatMulDw(a *args) {
	dy, x, dw := a.In[0], a.In[1], a.out(0)
	n, k, experts := dy.Dim(1), x.Dim(1), a.In[2].Size()-1
	g := newGrouped(a, dy, x, dw)
	g.launch("grouped_dw", grid{x: blocks(k, g.columns), y: blocks(n, g.rows), z: experts, threads: blockThreads, shared: g.shared},
		dw, g.x, g.w, a.In[2], n, k, flagged(a.Attrs.Bool("accumulate")))
}
