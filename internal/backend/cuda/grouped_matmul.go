package cuda

import "jambalaya/internal/engine"

func init() {
	register("grouped_matmul", groupedMatMul)
	register("grouped_matmul_dx", groupedMatMulDx)
	register("grouped_matmul_dw", groupedMatMulDw)
}

// productTile is the extent of a tile, as in grouped.cu.
const productTile = 128

// groupedGrid has as many rows of tiles as any distribution over the experts needs.
func groupedGrid(columns, rows, experts int) grid {
	return grid{x: blocks(columns, productTile), y: blocks(rows, productTile) + experts, threads: blockThreads}
}

func groupedFile(a *args, x, w, y *engine.Tensor) file {
	return a.file("grouped", typed("X", x), typed("W", w), typed("Y", y))
}

// groupedMatMul: y[s] = x[s] w[e]^T.
func groupedMatMul(a *args) {
	x, w, y := a.In[0], a.In[1], a.out(0)
	experts, n, k := w.Dim(0), w.Dim(1), w.Dim(2)
	groupedFile(a, x, w, y).launch("grouped", groupedGrid(n, x.Dim(0), experts), y, x, w, a.In[2], experts, n, k)
}

// groupedMatMulDx: dx[s] = dy[s] w[e].
func groupedMatMulDx(a *args) {
	dy, w, dx := a.In[0], a.In[1], a.out(0)
	experts, n, k := w.Dim(0), w.Dim(1), w.Dim(2)
	groupedFile(a, dy, w, dx).launch("grouped_dx", groupedGrid(k, dy.Dim(0), experts), dx, dy, w, a.In[2], experts, n, k)
}

// groupedMatMulDw: dw[e] = sum over its rows of dy[s]^T x[s], added to dw with
// accumulate.
func groupedMatMulDw(a *args) {
	dy, x, dw := a.In[0], a.In[1], a.out(0)
	n, k, experts := dy.Dim(1), x.Dim(1), a.In[2].Size()-1
	groupedFile(a, dy, x, dw).launch("grouped_dw", grid{x: blocks(k, productTile), y: blocks(n, productTile), z: experts, threads: blockThreads},
		dw, dy, x, a.In[2], n, k, flagged(a.Attrs.Bool("accumulate")))
}
