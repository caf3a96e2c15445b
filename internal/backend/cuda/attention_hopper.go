package cuda

import "jambalaya/internal/engine"

// hopper says whether the kernels of attention_hopper.cu can do it.
func (h heads) hopper(a *args, ts ...*engine.Tensor) bool {
	return a.b.hopper() && h.tensorCores(ts...) && (h.dim == 64 || h.dim == 128)
}

// Constants of attention_hopper.cu and attention_grad_hopper.cu: positions of a
// block's own tile and of a tile of the other side in the gradients, positions whose
// statistics lie together, buffers, threads.
const (
	hopperRows       = 128
	hopperStep       = 64
	hopperStats      = 64
	hopperStages     = 2
	hopperGradStages = 4
	hopperThreads    = 384
	swizzleBytes     = 1024 // alignment of tiles
)

func hopperDefines(dim int) []define {
	return []define{constant("D", dim), constant("ROWS", hopperRows), constant("STAGES", hopperStages)}
}

func hopperGradDefines(dim int) []define {
	return []define{constant("D", dim), constant("ROWS", hopperRows), constant("STEP", hopperStep), constant("STAGES", hopperGradStages)}
}

// headMap describes n heads of each position to the copy engine, in tiles of rows
// positions of one head.
func (h heads) headMap(a *args, t *engine.Tensor, n, rows int) []byte {
	const line = 64
	return a.tensorMap(t, []int{line, h.length, n * h.dim / line, h.batch}, []int{2 * n * h.dim, 2 * line, 2 * h.length * n * h.dim},
		[]int{line, rows, h.dim / line, 1})
}

// tileGrid gives tiles of hopperRows queries of a head to as many blocks as run at a
// time, which share them out.
func (h heads) tileGrid(a *args, shared int) grid {
	tiles := blocks(h.length, hopperRows) * h.heads * h.batch
	return grid{x: min(tiles, max(1, int(a.b.device.processors))), threads: hopperThreads, shared: swizzleBytes + shared}
}

func (h heads) forwardHopper(a *args) {
	qkv, out := a.In[0], a.out(0)
	next := a.scratch(2)
	starts := h.starts(a, a.In[1], next)
	tile := 2 * hopperRows * h.dim
	a.file("attention_hopper", hopperDefines(h.dim)...).
		launch("attention", h.tileGrid(a, tile*(1+2*hopperStages)), out, a.out(1), h.headMap(a, qkv, h.heads+2*h.kv, hopperRows), starts, next,
			h.params(), h.batch)
}

func (h heads) gradHopper(a *args) {
	qkv, docs, out, lse, dout, dqkv := a.In[0], a.In[1], a.In[2], a.In[3], a.In[4], a.out(0)
	next := a.scratch(2)
	starts, ends := h.starts(a, docs, next), a.scratch(h.batch*h.length)
	a.file("documents").launch("document_ends", grid{x: h.batch, threads: 1024}, ends, docs, h.length)

	rows := h.batch * h.heads * blocks(h.length, hopperStats) * hopperStats
	stats := a.scratch(2 * rows)
	a.file("attention_stats", constant("D", h.dim)).launch("attention_stats", grid{x: blocks(rows*h.dim/8, blockThreads), threads: blockThreads},
		stats, out, dout, lse, h.batch, h.length, h.heads)

	all := h.heads + 2*h.kv
	own, step := h.headMap(a, qkv, all, hopperRows), h.headMap(a, qkv, all, hopperStep)
	ownTile, stage := 2*hopperRows*h.dim, 2*2*hopperStep*h.dim
	f := a.file("attention_grad_hopper", hopperGradDefines(h.dim)...)
	f.launch("attention_grad_q", h.tileGrid(a, 2*ownTile+hopperGradStages*stage), dqkv, own, h.headMap(a, dout, h.heads, hopperRows), step,
		stats, starts, next, h.params(), h.batch)
	statistics := swizzleBytes // 2 * hopperStats floats, and alignment
	f.launch("attention_grad_kv", grid{x: h.kv * h.batch, y: blocks(h.length, hopperRows), threads: hopperThreads,
		shared: swizzleBytes + 2*ownTile + hopperGradStages*(stage+statistics)},
		dqkv, own, step, h.headMap(a, dout, h.heads, hopperStep), stats, ends, h.params())
}
