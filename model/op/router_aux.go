package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// AuxScope is over what the load-balancing loss takes its means.
type AuxScope int

const (
	// AuxBatch is the reference's: one joint mean over the tokens of all layers.
	AuxBatch AuxScope = iota
	// AuxSequence takes one mean a layer and sequence; the result is the sum over
	// sequences of the mean over layers, the same however a batch is cut.
	AuxSequence
)

// RouterAux is the load-balancing loss E sum_e f_e P_e, where f_e is the number of
// choices that fell on expert e by token and P_e its mean probability (Switch
// Transformer, arXiv 2101.03961, eq. 4, for k choices: perfect balance gives k).
// probs and index are the router outputs of every MoE layer. load[layers,E]
// counts the assignments. Padding (docs < 0) is left out.
func (b *Builder) RouterAux(probs, index []*G.Node, docsBL *G.Node, scope AuxScope) (aux, load *G.Node) {
	a := auxRef{layers: len(probs), scope: scope, batch: docsBL.Shape()[0], length: docsBL.Shape()[1],
		e: probs[0].Shape()[1], k: index[0].Shape()[1]}
	attrs := engine.Attrs{num("scope", int(scope)), num("batch", a.batch), num("length", a.length), num("layers", a.layers)}
	var in []*G.Node
	d := make([]bool, 2*a.layers+1)
	for i := range probs {
		in = append(in, probs[i], index[i])
		d[2*i] = true
	}
	in = append(in, docsBL)
	outs := b.apply(def{
		kernel: "router_aux",
		attrs:  attrs,
		outs:   []engine.Out{f32(1), f32(a.layers, a.e)},
		diff:   d,
		ref:    a.forward,
		grad: func(in, _, dout []*G.Node) []*G.Node {
			grads := make([]engine.Out, a.layers)
			for i := range grads {
				grads[i] = f32(a.batch*a.length, a.e)
			}
			dprobs := b.apply(def{kernel: "router_aux_grad", attrs: attrs, outs: grads, ref: a.backward},
				append(append([]*G.Node(nil), in...), dout[0])...)
			all := make([]*G.Node, len(in))
			for i, g := range dprobs {
				all[2*i] = g
			}
			return all
		},
	}, in...)
	return outs[0], outs[1]
}

type auxRef struct {
	layers, batch, length, e, k int
	scope                       AuxScope
}

// group is a set of tokens over which means are taken.
type group struct {
	layers, rows []int
	weight       float64 // of the group's loss in the result
}

func (a auxRef) groups(docs []float64) []group {
	row := func(b int) (rows []int) {
		for t := b * a.length; t < (b+1)*a.length; t++ {
			if docs[t] >= 0 {
				rows = append(rows, t)
			}
		}
		return rows
	}
	var gs []group
	if a.scope == AuxBatch {
		g := group{weight: 1}
		for l := 0; l < a.layers; l++ {
			g.layers = append(g.layers, l)
		}
		for b := 0; b < a.batch; b++ {
			g.rows = append(g.rows, row(b)...)
		}
		return append(gs, g)
	}
	for l := 0; l < a.layers; l++ {
		for b := 0; b < a.batch; b++ {
			gs = append(gs, group{layers: []int{l}, rows: row(b), weight: 1 / float64(a.layers)})
		}
	}
	return gs
}

// means returns f (choices by token) and P (mean probability) of a group.
func (a auxRef) means(g group, in [][]float64) (f, p []float64) {
	f, p = make([]float64, a.e), make([]float64, a.e)
	n := float64(len(g.layers) * len(g.rows))
	for _, l := range g.layers {
		for _, t := range g.rows {
			for e := 0; e < a.e; e++ {
				p[e] += in[2*l][t*a.e+e] / n
			}
			for j := 0; j < a.k; j++ {
				f[int(in[2*l+1][t*a.k+j])] += 1 / n
			}
		}
	}
	return f, p
}

func (a auxRef) forward(in, out [][]float64) {
	docs := in[2*a.layers]
	for _, g := range a.groups(docs) {
		if len(g.rows) == 0 {
			continue
		}
		f, p := a.means(g, in)
		for e := range f {
			out[0][0] += g.weight * float64(a.e) * f[e] * p[e]
		}
	}
	for l := 0; l < a.layers; l++ {
		for t, d := range docs {
			for j := 0; j < a.k && d >= 0; j++ {
				out[1][l*a.e+int(in[2*l+1][t*a.k+j])]++
			}
		}
	}
}

// backward: the choices have no gradient, so dP_e = weight E f_e daux.
func (a auxRef) backward(in, out [][]float64) {
	daux := in[len(in)-1][0]
	for _, g := range a.groups(in[2*a.layers]) {
		f, _ := a.means(g, in)
		n := float64(len(g.layers) * len(g.rows))
		for _, l := range g.layers {
			for _, t := range g.rows {
				for e := range f {
					out[l][t*a.e+e] = daux * g.weight * float64(a.e) * f[e] / n
				}
			}
		}
	}
}
