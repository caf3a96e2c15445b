package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// SumSquares is the sum of the squares of x, whose root is the norm that
// clipping needs. An element that is not finite makes the sum not finite.
func (b *Builder) SumSquares(x *G.Node) *G.Node {
	return b.apply(def{
		kernel: "sum_squares",
		outs:   []engine.Out{f32(1)},
		ref: func(in, out [][]float64) {
			for _, v := range in[0] {
				out[0][0] += v * v
			}
		},
	}, x)[0]
}

// AdamWConfig are the constants of the optimiser.
type AdamWConfig struct {
	Beta1, Beta2, Eps, WeightDecay float64
	Clip                           float64 // largest global norm of the gradient; 0: no clipping
}

// AdamW advances weights p and moments m, v by one step, in place (Loshchilov and
// Hutter 2019, arXiv 1711.05101, algorithm 2, as PyTorch computes it):
//
//	g = grad * min(1, clip / (sqrt(sumsq) + 1e-6))
//	p = p (1 - lr wd)
//	m = beta1 m + (1-beta1) g;  v = beta2 v + (1-beta2) g^2
//	p = p - lr / (1-beta1^t) * m / (sqrt(v) / sqrt(1-beta2^t) + eps)
//
// sumsq[1] is the sum of squares of the whole gradient; where it is not finite
// nothing changes. hyper[4] holds what differs from step to step: lr, 1-beta1^t,
// 1-beta2^t, and 1 to apply the step or 0 to skip it.
//
// narrow, which may be nil, is a copy of p for products, stored as it is bound: the
// step leaves the new weights there too, rounded.
func (b *Builder) AdamW(p, m, v, grad, sumsq, hyper, narrow *G.Node, c AdamWConfig) []*G.Node {
	n := p.Shape().TotalSize()
	updates := func(input int) engine.Out { return engine.Out{Shape: []int{n}, Class: engine.F32, Updates: input + 1} }
	in, outs := []*G.Node{p, m, v, grad, sumsq, hyper}, []engine.Out{updates(0), updates(1), updates(2)}
	if narrow != nil {
		in, outs = append(in, narrow), append(outs, engine.Out{Shape: []int{n}, Class: engine.Act, Updates: len(in) + 1})
	}
	return b.apply(def{
		kernel: "adamw",
		attrs: engine.Attrs{num("beta1", c.Beta1), num("beta2", c.Beta2), num("eps", c.Eps),
			num("weight_decay", c.WeightDecay), num("clip", c.Clip), flag("narrow", narrow != nil)},
		outs: outs,
		ref:  func(in, out [][]float64) { adamWRef(c, in, out) },
	}, in...)
}

// Narrow copies x to another tensor, in place, as that is stored.
func (b *Builder) Narrow(x, to *G.Node) *G.Node {
	check(x.Shape().Eq(to.Shape()), "narrow %v to %v", x.Shape(), to.Shape())
	return b.apply(def{
		kernel: "narrow",
		outs:   []engine.Out{{Shape: x.Shape().Clone(), Class: engine.Act, Updates: 2}},
		ref:    func(in, out [][]float64) { copy(out[0], in[0]) },
	}, x, to)[0]
}

func adamWRef(c AdamWConfig, in, out [][]float64) {
	for i := range 3 {
		copy(out[i], in[i])
	}
	if len(out) > 3 {
		copy(out[3], in[6])
	}
	norm, hyper := math.Sqrt(in[4][0]), in[5]
	if math.IsNaN(norm) || math.IsInf(norm, 0) || hyper[3] == 0 {
		return
	}
	scale := 1.0
	if c.Clip > 0 {
		scale = min(1, c.Clip/(norm+1e-6))
	}
	p, m, v := out[0], out[1], out[2]
	for i, g := range in[3] {
		g *= scale
		p[i] *= 1 - hyper[0]*c.WeightDecay
		m[i] = c.Beta1*m[i] + (1-c.Beta1)*g
		v[i] = c.Beta2*v[i] + (1-c.Beta2)*g*g
		p[i] -= hyper[0] / hyper[1] * m[i] / (math.Sqrt(v[i])/math.Sqrt(hyper[2]) + c.Eps)
	}
	if len(out) > 3 {
		copy(out[3], p)
	}
}

// Accumulate adds x to the running sum acc, in place: gradients of micro-batches.
func (b *Builder) Accumulate(acc, x *G.Node) *G.Node {
	check(acc.Shape().Eq(x.Shape()), "accumulate %v into %v", x.Shape(), acc.Shape())
	out := act(x.Shape()...)
	out.Updates = 1
	return b.apply(def{
		kernel: "add",
		outs:   []engine.Out{out},
		ref: func(in, out [][]float64) {
			for i := range out[0] {
				out[0][i] = in[0][i] + in[1][i]
			}
		},
	}, acc, x)[0]
}
