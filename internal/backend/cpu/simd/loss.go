package simd

import "math"

// CrossEntropy is nll[t] = lse[t] - logits[t,targets[t]], 0 where there is no target (it is negative), and
// lse[t] = log(sum_v e^logits[t,v]), over the rows of logits[len(targets),vocab].
func CrossEntropy(nll, lse, logits []float32, targets []int32, vocab int) {
	tops, sums, expSums := lse[:len(targets)], nll[:len(targets)], rows().expSums
	if expSums != nil && len(targets) > 0 {
		expSums(tops, sums, logits[:len(targets)*vocab], vocab)
	}
	for t, target := range targets {
		row := logits[t*vocab:][:vocab]
		if expSums == nil || sums[t] != sums[t] {
			tops[t], sums[t] = expSum(row)
		}
		z := float64(tops[t]) + math.Log(float64(sums[t]))
		lse[t], nll[t] = float32(z), 0
		if target >= 0 {
			nll[t] = float32(z - float64(row[target]))
		}
	}
}

// expSum is the largest element of x, and the sum of e^(x - top).
func expSum(x []float32) (top, sum float32) {
	k := vec()
	if top = k.max(x); math.IsInf(float64(top), 0) { // e^(x - top) would be NaN; it is one where an element is +Inf
		top = 0
	}
	return top, k.expSum(x, top)
}

// Sum64 is the sum of x in order, in float64.
func Sum64(x []float32) float64 {
	var s float64
	for _, v := range x {
		s += float64(v)
	}
	return s
}

// CrossEntropyGrad is dlogits = (softmax(logits) - onehot(target)) * dloss, and zero rows where there is no
// target. dlogits may be logits.
func CrossEntropyGrad(dlogits, logits, lse []float32, targets []int32, dloss float32, vocab int) {
	k := vec()
	for t, target := range targets {
		row := dlogits[t*vocab:][:vocab]
		if target < 0 {
			clear(row)
			continue
		}
		k.expScale(row, logits[t*vocab:][:vocab], lse[t], dloss)
		row[target] -= dloss
	}
}
