package cuda

import "jambalaya/internal/engine"

func init() {
	register("grouped_matmul", groupedMatMul)
	register("grouped_matmul_dx", groupedMatMulDx)
	register("grouped_matmul_dw", groupedMatMulDw)
}

// grouped is a file of kernels for products by expert, with their operands in the
// type that it takes.
type grouped struct {
	file
	x, w   *engine.Tensor
	hopper bool
}

// newGrouped chooses the kernels: tensor cores for bf16 whose lines are whole
// pieces of 16 bytes, where the device has them.
func newGrouped(a *args, x, w, y *engine.Tensor) grouped {
	if x.DType == engine.BFloat16 || w.DType == engine.BFloat16 {
		x, w = a.stored(x, engine.BFloat16), a.stored(w, engine.BFloat16)
	}
	if a.b.hopper() && x.DType == engine.BFloat16 && x.Dim(0) > 0 && pieces(x) && pieces(w) && pieces(y) {
		return grouped{a.file("grouped_hopper", groupedDefines(y)...), x, w, true}
	}
	return grouped{a.file("grouped", typed("X", x), typed("W", w), typed("Y", y)), x, w, false}
}

// pieces says whether the lines of a tensor are aligned to 16 bytes, in bf16 too.
func pieces(t *engine.Tensor) bool { return t.Dim(-1)%8 == 0 && t.Off%16 == 0 }

// Constants of grouped_hopper.cu: blocks that share an operand, buffers, and the
// sides of a step's operands.
const (
	groupedCluster = 2
	groupedStages  = 4
	groupedRows    = 128
	groupedColumns = 256
	groupedDepth   = 64
)

func groupedDefines(y *engine.Tensor) []define {
	return []define{typed("Y", y), constant("CLUSTER", groupedCluster), constant("STAGES", groupedStages)}
}

// grid has tiles of the generic kernels for `rows` rows, or for any distribution of
// them over experts.
func (g grouped) grid(columns, rows, experts int) grid {
	const side = 128
	if !g.hopper {
		return grid{x: blocks(columns, side), y: blocks(rows, side) + experts, threads: blockThreads}
	}
	clusters := max(1, int(g.a.b.device.processors)/groupedCluster)
	return grid{x: clusters * groupedCluster, threads: hopperThreads,
		shared: swizzleBytes + groupedStages*2*groupedDepth*(groupedRows+groupedColumns)}
}

// operand is a matrix, or one for each expert, as the kernels take it: on Hopper in
// tiles for the copy engine, across where the product sums over rows of memory.
func (g grouped) operand(t *engine.Tensor, across bool) any {
	if !g.hopper {
		return t
	}
	rows := groupedRows
	if across {
		rows = groupedDepth
	}
	experts, lines, columns := 1, t.Dim(-2), t.Dim(-1)
	if len(t.Shape) == 3 {
		experts = t.Dim(0)
	}
	const line = 64
	return g.a.tensorMap(t, []int{columns, lines, experts}, []int{2 * columns, 2 * columns * lines}, []int{line, rows, 1})
}

// groupedMatMul: y[s] = x[s] w[e]^T.
func groupedMatMul(a *args) {
	w, y := a.In[1], a.out(0)
	experts, n, k := w.Dim(0), w.Dim(1), w.Dim(2)
	g := newGrouped(a, a.In[0], w, y)
	g.launch("grouped", g.grid(n, y.Dim(0), experts), y, g.operand(g.x, false), g.operand(g.w, false), a.In[2], experts, n, k)
}

// groupedMatMulDx: dx[s] = dy[s] w[e].
func groupedMatMulDx(a *args) {
	w, dx := a.In[1], a.out(0)
	experts, n, k := w.Dim(0), w.Dim(1), w.Dim(2)
	g := newGrouped(a, a.In[0], w, dx)
	g.launch("grouped_dx", g.grid(k, dx.Dim(0), experts), dx, g.operand(g.x, false), g.operand(g.w, true), a.In[2], experts, n, k)
}

// groupedMatMulDw: dw[e] = sum over its rows of dy[s]^T x[s], added to dw with
// accumulate.
func groupedMatMulDw(a *args) {
	dy, x, dw := a.In[0], a.In[1], a.out(0)
	n, k, experts := dy.Dim(1), x.Dim(1), a.In[2].Size()-1
	g := newGrouped(a, dy, x, dw)
	grid := g.grid(k, n, 0)
	if !g.hopper {
		grid.z = experts
	}
	g.launch("grouped_dw", grid, dw, g.operand(g.x, true), g.operand(g.w, true), a.In[2], experts, n, k, flagged(a.Attrs.Bool("accumulate")))
}
