package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// Routing orders the S = T*K assignments of tokens to experts by expert.
type Routing struct {
	Slot    *G.Node // [T,K] row of assignment (t,k) in expert order
	Source  *G.Node // [S] t*K+k of each row
	Offsets *G.Node // [E+1] first row of each expert, and S
}

// ExpertSort orders the assignments index[T,K] by expert, stably, so that the
// rows of an expert are contiguous. No row is left out: see ExpertCapacity for a limit.
func (b *Builder) ExpertSort(indexTK *G.Node, experts int) Routing {
	rows, k := indexTK.Shape()[0], indexTK.Shape()[1]
	outs := b.apply(def{
		kernel: "expert_sort",
		attrs:  engine.Attrs{num("experts", experts)},
		outs:   []engine.Out{kept(i32(rows, k)), kept(i32(rows * k)), kept(i32(experts + 1))},
		ref: func(in, out [][]float64) {
			row := 0
			for e := 0; e < experts; e++ {
				for i, x := range in[0] {
					if int(x) == e {
						out[0][i], out[1][row] = float64(row), float64(i)
						row++
					}
				}
				out[2][e+1] = float64(row)
			}
		},
	}, indexTK)
	return Routing{Slot: outs[0], Source: outs[1], Offsets: outs[2]}
}

// Dispatch copies each token's row of x[T,H] to the rows of its experts: [S,H].
func (b *Builder) Dispatch(xTH *G.Node, r Routing) *G.Node {
	rows, h := xTH.Shape()[0], xTH.Shape()[1]
	k := r.Slot.Shape()[1]
	return b.apply(def{
		kernel: "dispatch",
		outs:   []engine.Out{act(rows*k, h)},
		diff:   diff(3, 0),
		cheap:  true,
		ref: func(in, out [][]float64) {
			for row, src := range in[2] {
				copy(out[0][row*h:][:h], in[0][int(src)/k*h:])
			}
		},
		grad: func(in, _, dout []*G.Node) []*G.Node {
			return []*G.Node{b.dispatchGrad(dout[0], in[1], rows, k, h), nil, nil}
		},
	}, xTH, r.Slot, r.Source)[0]
}

// dispatchGrad is dx[t] = sum_k dxs[slot[t,k]], in the order of k.
func (b *Builder) dispatchGrad(dxs, slot *G.Node, rows, k, h int) *G.Node {
	return b.apply(def{
		kernel: "dispatch_grad",
		outs:   []engine.Out{act(rows, h)},
		ref: func(in, out [][]float64) {
			for i, row := range in[1] {
				for c := 0; c < h; c++ {
					out[0][i/k*h+c] += in[0][int(row)*h+c]
				}
			}
		},
	}, dxs, slot)[0]
}

// Combine is y[t] = sum_k weights[t,k] ys[slot[t,k]]: what a token's experts say.
func (b *Builder) Combine(ysSH, weightsTK *G.Node, r Routing) *G.Node {
	rows, k := weightsTK.Shape()[0], weightsTK.Shape()[1]
	h := ysSH.Shape()[1]
	return b.apply(def{
		kernel: "combine",
		outs:   []engine.Out{act(rows, h)},
		diff:   diff(4, 0, 1),
		ref: func(in, out [][]float64) {
			for i, row := range in[2] {
				for c := 0; c < h; c++ {
					out[0][i/k*h+c] += in[1][i] * in[0][int(row)*h+c]
				}
			}
		},
		grad: func(in, _, dout []*G.Node) []*G.Node {
			dys, dw := b.combineGrad(in, dout[0], rows, k, h)
			return []*G.Node{dys, dw, nil, nil}
		},
	}, ysSH, weightsTK, r.Slot, r.Source)[0]
}

// combineGrad: dys[slot[t,k]] = weights[t,k] dy[t], dweights[t,k] = ys[slot] . dy[t].
func (b *Builder) combineGrad(in []*G.Node, dy *G.Node, rows, k, h int) (dys, dweights *G.Node) {
	outs := b.apply(def{
		kernel: "combine_grad",
		outs:   []engine.Out{act(rows*k, h), f32(rows, k)},
		ref: func(in, out [][]float64) {
			ys, weights, slot, dy := in[0], in[1], in[2], in[4]
			for i, row := range slot {
				for c := 0; c < h; c++ {
					d := dy[i/k*h+c]
					out[0][int(row)*h+c] = weights[i] * d
					out[1][i] += ys[int(row)*h+c] * d
				}
			}
		},
	}, append(append([]*G.Node(nil), in...), dy)...)
	return outs[0], outs[1]
}
