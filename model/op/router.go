package op

import (
	"math"
	"sort"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// RouterTopK is the choice of experts: probs = softmax(logits[T,E]) over all
// experts, the k largest of them as weights[T,K] with their index[T,K]. As in
// Jamba the weights are not renormalised unless asked (Mixtral does). Equal
// probabilities go to the lower expert.
func (b *Builder) RouterTopK(logitsTE *G.Node, k int, renormalise bool) (probsTE, weightsTK, indexTK *G.Node) {
	rows, e := logitsTE.Shape()[0], logitsTE.Shape()[1]
	check(k >= 1 && k <= e, "top %d of %d experts", k, e)
	attrs := engine.Attrs{num("k", k), flag("renormalise", renormalise)}
	outs := b.apply(def{
		kernel: "router_topk",
		attrs:  attrs,
		outs:   []engine.Out{kept(f32(rows, e)), kept(f32(rows, k)), kept(i32(rows, k))},
		diff:   diff(1, 0),
		ref: func(in, out [][]float64) {
			for t := 0; t < rows; t++ {
				topKRef(in[0][t*e:][:e], out[0][t*e:][:e], out[1][t*k:][:k], out[2][t*k:][:k], renormalise)
			}
		},
		grad: func(_, out, dout []*G.Node) []*G.Node {
			return []*G.Node{b.routerTopKGrad(out, dout, attrs, rows, e, k, renormalise)}
		},
	}, logitsTE)
	return outs[0], outs[1], outs[2]
}

func topKRef(logits, probs, weights, index []float64, renormalise bool) {
	softmaxRef(logits, probs)
	order := make([]int, len(probs))
	for i := range order {
		order[i] = i
	}
	sort.SliceStable(order, func(i, j int) bool { return probs[order[i]] > probs[order[j]] })
	sum := 0.0
	for i := range weights {
		weights[i], index[i] = probs[order[i]], float64(order[i])
		sum += weights[i]
	}
	if renormalise {
		for i := range weights {
			weights[i] /= sum
		}
	}
}

func softmaxRef(x, y []float64) {
	top, sum := math.Inf(-1), 0.0
	for _, v := range x {
		top = max(top, v)
	}
	for i, v := range x {
		y[i] = math.Exp(v - top)
		sum += y[i]
	}
	for i := range y {
		y[i] /= sum
	}
}

// routerTopKGrad adds the gradient of the chosen weights to that of all
// probabilities (the load-balancing loss), then goes through the softmax.
// Inputs: probs, weights, index, then dprobs and dweights where they exist.
func (b *Builder) routerTopKGrad(out, dout []*G.Node, attrs engine.Attrs, rows, e, k int, renormalise bool) *G.Node {
	in := append([]*G.Node(nil), out...)
	hasProbs, hasWeights := dout[0] != nil, dout[1] != nil
	for _, d := range dout[:2] {
		if d != nil {
			in = append(in, d)
		}
	}
	attrs = append(append(engine.Attrs(nil), attrs...), flag("has_dprobs", hasProbs), flag("has_dweights", hasWeights))
	return b.apply(def{
		kernel: "router_topk_grad",
		attrs:  attrs,
		outs:   []engine.Out{f32(rows, e)},
		ref: func(in, out [][]float64) {
			dp := make([]float64, rows*e)
			if hasProbs {
				copy(dp, in[3])
			}
			if hasWeights {
				scatterWeightGrad(in[0], in[1], in[2], in[len(in)-1], dp, e, k, renormalise)
			}
			for t := 0; t < rows; t++ {
				p, g, dot := in[0][t*e:][:e], dp[t*e:][:e], 0.0
				for i := range p {
					dot += p[i] * g[i]
				}
				for i := range p {
					out[0][t*e+i] = p[i] * (g[i] - dot)
				}
			}
		},
	}, in...)[0]
}

// scatterWeightGrad adds the gradient of the weights to that of the
// probabilities they were taken from. Renormalised, w_i = p_i / s with s the sum
// of the chosen: dp_i = (dw_i - sum_j dw_j w_j) / s.
func scatterWeightGrad(probs, weights, index, dw, dp []float64, e, k int, renormalise bool) {
	for t := 0; t < len(dw)/k; t++ {
		shift, scale := 0.0, 1.0
		if renormalise {
			sum := 0.0
			for j := 0; j < k; j++ {
				sum += probs[t*e+int(index[t*k+j])]
				shift += dw[t*k+j] * weights[t*k+j]
			}
			scale = 1 / sum
		}
		for j := 0; j < k; j++ {
			dp[t*e+int(index[t*k+j])] += (dw[t*k+j] - shift) * scale
		}
	}
}
