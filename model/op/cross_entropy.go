package op

import (
	"math"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
)

// IgnoreTarget marks a position without a target.
const IgnoreTarget = -100

// CrossEntropy is loss[1] = sum over the valid targets of -log softmax(logits),
// with nll[T] the summand of each position. It is a sum, not a mean: the seed of
// the gradient divides by the targets of the global batch.
func (b *Builder) CrossEntropy(logitsTV, targetsBL *G.Node) (loss, nllT *G.Node) {
	rows, vocab := logitsTV.Shape()[0], logitsTV.Shape()[1]
	check(targetsBL.Shape().TotalSize() == rows, "cross_entropy of %v with targets %v", logitsTV.Shape(), targetsBL.Shape())
	outs := b.apply(def{
		kernel: "cross_entropy",
		outs:   []engine.Out{f32(1), f32(rows), f32(rows)},
		diff:   diff(2, 0),
		ref: func(in, out [][]float64) {
			for t, target := range in[1] {
				row := in[0][t*vocab : (t+1)*vocab]
				out[2][t] = logSumExp(row)
				if target >= 0 {
					out[1][t] = out[2][t] - row[int(target)]
					out[0][0] += out[1][t]
				}
			}
		},
		grad: func(in, out, dout []*G.Node) []*G.Node {
			check(dout[0] != nil && dout[1] == nil, "cross_entropy: the gradient is that of the loss, not of nll")
			return []*G.Node{b.crossEntropyGrad(in[0], in[1], out[2], dout[0]), nil}
		},
	}, logitsTV, targetsBL)
	return outs[0], outs[1]
}

// crossEntropyGrad is dlogits = dloss (softmax(logits) - onehot(target)), zero
// where there is no target.
func (b *Builder) crossEntropyGrad(logitsTV, targetsBL, lseT, dloss *G.Node) *G.Node {
	rows, vocab := logitsTV.Shape()[0], logitsTV.Shape()[1]
	return b.apply(def{
		kernel: "cross_entropy_grad",
		outs:   []engine.Out{inPlace(act(rows, vocab), 0)},
		ref: func(in, out [][]float64) {
			for t, target := range in[1] {
				if target < 0 {
					continue
				}
				for v := 0; v < vocab; v++ {
					out[0][t*vocab+v] = in[3][0] * math.Exp(in[0][t*vocab+v]-in[2][t])
				}
				out[0][t*vocab+int(target)] -= in[3][0]
			}
		},
	}, logitsTV, targetsBL, lseT, dloss)[0]
}

func logSumExp(x []float64) float64 {
	top, sum := math.Inf(-1), 0.0
	for _, v := range x {
		top = max(top, v)
	}
	for _, v := range x {
		sum += math.Exp(v - top)
	}
	return top + math.Log(sum)
}
