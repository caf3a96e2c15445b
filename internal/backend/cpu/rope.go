package cpu

import "jambalaya/internal/backend/cpu/simd"

func init() { register("rope", sized(rope)) }

// rotation is a rotary embedding over the rows of a batch.
type rotation struct {
	length, width int
	heads         simd.RopeHeads
	inverse       bool
	x, y          []float32
	docs          []int32
	table, first  ropeTable // of positions from 0, and of a row's first document
}

type ropeTable struct{ cos, sin []float32 }

func rope(b *Backend, a *args) func() error {
	batch, kv, theta := a.Attrs.Int("batch"), a.Attrs.Int("kv_heads"), a.Attrs.Float("theta")
	r := &rotation{length: a.Attrs.Int("length"), width: a.In[0].Dim(-1), inverse: a.Attrs.Bool("inverse"),
		heads: simd.RopeHeads{Rotated: a.Attrs.Int("heads") + kv, HeadDim: a.Attrs.Int("head_dim")}}
	r.heads.Copied = kv * r.heads.HeadDim
	r.x, r.docs, r.y = a.in(true), a.ints(), a.out(0)
	angles := r.length * r.heads.HeadDim / 2
	if !a.sizing {
		r.table = ropeTable{make([]float32, angles), make([]float32, angles)}
		simd.RopeTable(r.table.cos, r.table.sin, 0, theta, r.heads.HeadDim)
	}
	r.first = r.table
	task := func(i, _ int) { r.row(i) }
	run := func() { b.pool.Run(batch, task) }
	if !a.Attrs.Bool("offset") {
		return step(run)
	}
	pos := a.ints()
	r.first = ropeTable{a.scratch(angles), a.scratch(angles)}
	return step(func() { simd.RopeTable(r.first.cos, r.first.sin, int(pos[0]), theta, r.heads.HeadDim) }, run)
}

// row rotates row i of the batch.
func (r *rotation) row(i int) {
	x, y, docs := part(r.x, i, r.length*r.width), part(r.y, i, r.length*r.width), part(r.docs, i, r.length)
	end := 1
	for end < r.length && docs[end] == docs[0] {
		end++
	}
	simd.Rope(y, x, r.first.cos, r.first.sin, docs[:end], r.heads, r.inverse)
	simd.Rope(y[end*r.width:], x[end*r.width:], r.table.cos, r.table.sin, docs[end:], r.heads, r.inverse)
}
