package op

import (
	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// Kernels of the experts that several ranks hold. No backend has them: ranks exchange
// rows in them, and the model brings them to a plan.
const (
	ExpertsKernel     = "experts"
	ExpertsGradKernel = "experts_grad"
)

// Experts is ys[s] = down_e(swiglu(gateUp_e(xs[s]))) for the rows s of xs[S,H] in
// expert order, of all experts, of which this rank holds the weights of some:
// gateUp[n,2I,H] and down[n,H,I]. The rows of the others' experts are computed where
// those are, and this rank computes rows of other ranks. It keeps nothing of what it
// received: the gradient sends the rows again.
//
// Where weights[T,K] are given, those of the assignments after ExpertCapacity, a row whose
// assignment has weight 0 is not computed anywhere: ys of it and the gradient of xs are 0.
func (b *Builder) Experts(xsSH, gateUp, down *G.Node, r Routing, weightsTK *G.Node) *G.Node {
	rows, h := xsSH.Shape()[0], xsSH.Shape()[1]
	in := []*G.Node{xsSH, gateUp, down, r.Offsets}
	if weightsTK != nil {
		in = append(in, weightsTK, r.Source)
	}
	check(gateUp.Shape()[2] == h && down.Shape()[1] == h && 2*down.Shape()[2] == gateUp.Shape()[1] && gateUp.Shape()[0] == down.Shape()[0],
		"experts of %v by %v and %v", xsSH.Shape(), gateUp.Shape(), down.Shape())
	return b.apply(def{
		kernel:   ExpertsKernel,
		outs:     []engine.Out{act(rows, h)},
		diff:     diff(len(in), 0, 1, 2),
		exchange: true,
		grad: func(in, _, dout []*G.Node) []*G.Node {
			return append(b.expertsGrad(dout[0], in), make([]*G.Node, len(in)-3)...)
		},
	}, in...)[0]
}

// expertsGrad are the gradients of xs, gateUp and down, of the latter those of all
// ranks' rows.
func (b *Builder) expertsGrad(dys *G.Node, in []*G.Node) []*G.Node {
	return b.apply(def{
		kernel:   ExpertsGradKernel,
		outs:     []engine.Out{act(in[0].Shape()...), act(in[1].Shape()...), act(in[2].Shape()...)},
		exchange: true,
	}, append([]*G.Node{dys}, in...)...)
}
