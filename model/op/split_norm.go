package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// SplitNorm cuts p[T,R+2N], what x_proj makes of the inner activations, into
// delta's low-rank form [T,R] and the matrices B and C [T,N], each normed by its
// own RMSNorm (Jamba, arXiv 2403.19887, sect. 6.4). Without weights it only cuts,
// as in the original Mamba.
func (b *Builder) SplitNorm(p, wdt, wb, wc *G.Node, rank, states int, eps float64) (dtTR, bTN, cTN *G.Node) {
	s := splitRef{rows: p.Shape()[0], widths: [3]int{rank, states, states}, eps: eps, norm: wdt != nil}
	check(p.Shape()[1] == rank+2*states, "split_norm of %v into %v", p.Shape(), s.widths)
	in, d := []*G.Node{p}, []bool{true}
	outs := []engine.Out{act(s.rows, rank), act(s.rows, states), act(s.rows, states)}
	if s.norm {
		in, d = append(in, wdt, wb, wc), append(d, true, true, true)
		outs = append(outs, f32(s.rows, 3))
	}
	attrs := engine.Attrs{num("eps", eps), num("rank", rank), num("states", states), flag("norm", s.norm)}
	parts := b.apply(def{
		kernel: "split_norm",
		attrs:  attrs,
		outs:   outs,
		diff:   d,
		cheap:  true,
		ref:    s.forward,
		grad: func(in, out, dout []*G.Node) []*G.Node {
			args := append([]*G.Node(nil), in...)
			grads := []engine.Out{act(s.rows, rank+2*states)}
			if s.norm {
				args = append(args, out[3])
				grads = append(grads, act(rank), act(states), act(states))
			}
			for _, g := range dout[:3] {
				check(g != nil, "split_norm with a part that has no gradient")
			}
			return b.apply(def{kernel: "split_norm_grad", attrs: attrs, outs: grads, ref: s.backward},
				append(args, dout[:3]...)...)
		},
	}, in...)
	return parts[0], parts[1], parts[2]
}

type splitRef struct {
	rows   int
	widths [3]int
	eps    float64
	norm   bool
}

// each calls f for the part of every row: its number, offset in p, offset in the
// part's own matrix, and width.
func (s splitRef) each(f func(row, part, from, to, width int)) {
	total := s.widths[0] + s.widths[1] + s.widths[2]
	for row := 0; row < s.rows; row++ {
		at := row * total
		for part, w := range s.widths {
			f(row, part, at, row*w, w)
			at += w
		}
	}
}

func (s splitRef) forward(in, out [][]float64) {
	s.each(func(row, part, from, to, width int) {
		x, y := in[0][from:from+width], out[part][to:to+width]
		if !s.norm {
			copy(y, x)
			return
		}
		rmsNormRef(x, in[1+part], y, out[3][row*3+part:][:1], s.eps)
	})
}

func (s splitRef) backward(in, out [][]float64) {
	douts := in[len(in)-3:]
	s.each(func(row, part, from, to, width int) {
		dx, dy := out[0][from:from+width], douts[part][to:to+width]
		if !s.norm {
			copy(dx, dy)
			return
		}
		rmsNormGradRef(in[0][from:from+width], in[1+part], in[4][row*3+part], dy, dx, out[1+part])
	})
}
