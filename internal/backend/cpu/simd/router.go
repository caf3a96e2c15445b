package simd

// RouterTopK takes the softmax of logits[T,experts] and the k largest of each row, the lower expert first where
// they are equal. With renormalise the weights of a row are divided by their sum.
func RouterTopK(probs, weights []float32, index []int32, logits []float32, experts, k int, renormalise bool) {
	v := vec()
	for t := 0; (t+1)*experts <= len(logits); t++ {
		row := logits[t*experts:][:experts]
		p, w, idx := probs[t*experts:][:experts], weights[t*k:][:k], index[t*k:][:k]
		v.expScale(p, row, v.max(row), 1)
		v.scale(p, p, 1/sum32(p))
		topK(w, idx, p)
		if renormalise {
			v.scale(w, w, 1/sum32(w))
		}
	}
}

func sum32(x []float32) float32 {
	var s float32
	for _, v := range x {
		s += v
	}
	return s
}

// topK selects len(weights) elements of p by insertion. Where p has NaN the choice is arbitrary but valid.
func topK(weights []float32, index []int32, p []float32) {
	n := 0
	for e, v := range p {
		if n == len(weights) && !(v > weights[n-1]) {
			continue
		}
		if n < len(weights) {
			n++
		}
		i := n - 1
		for ; i > 0 && v > weights[i-1]; i-- {
			weights[i], index[i] = weights[i-1], index[i-1]
		}
		weights[i], index[i] = v, int32(e)
	}
}

// RouterTopKGrad is the gradient of RouterTopK: the gradient of the weights is added to that of the probabilities
// they were taken from, and both go through the softmax. dprobs or dweights may be nil.
func RouterTopKGrad(dlogits, probs, weights []float32, index []int32, dprobs, dweights []float32, experts, k int, renormalise bool) {
	for t := 0; (t+1)*experts <= len(probs); t++ {
		p, d := probs[t*experts:][:experts], dlogits[t*experts:][:experts]
		if dprobs != nil {
			copy(d, dprobs[t*experts:][:experts])
		} else {
			clear(d)
		}
		if dweights != nil {
			weightsGrad(d, p, weights[t*k:][:k], dweights[t*k:][:k], index[t*k:][:k], renormalise)
		}
		var dot float32
		for e, g := range d {
			dot += g * p[e]
		}
		for e, g := range d {
			d[e] = p[e] * (g - dot)
		}
	}
}

// weightsGrad adds the gradient of the weights to that of the probabilities. Renormalised, w_i = p_i/s with s
// the sum of the chosen: dp_i = (dw_i - sum_j dw_j w_j) / s.
func weightsGrad(dp, p, w, dw []float32, index []int32, renormalise bool) {
	var shift float32
	factor := float32(1)
	if renormalise {
		var s float32
		for i, e := range index {
			s += p[e]
			shift += dw[i] * w[i]
		}
		factor = 1 / s
	}
	for i, e := range index {
		dp[e] += (dw[i] - shift) * factor
	}
}

// RouterLoad adds up the routing of the unpadded tokens of a row (docs >= 0): load[experts] counts their
// assignments, mean[experts] sums their probabilities. It returns the number of tokens.
func RouterLoad(load, mean []float64, probs []float32, index, docs []int32, k int) (tokens int) {
	experts := len(load)
	for t, doc := range docs {
		if doc < 0 {
			continue
		}
		tokens++
		for e, p := range probs[t*experts:][:experts] {
			mean[e] += float64(p)
		}
		for _, e := range index[t*k:][:k] {
			load[e]++
		}
	}
	return tokens
}

// RouterLoadGrad sets the rows of dprobs of unpadded tokens to grad[experts], the others to 0.
func RouterLoadGrad(dprobs, grad []float32, docs []int32) {
	experts := len(grad)
	for t, doc := range docs {
		if row := dprobs[t*experts:][:experts]; doc < 0 {
			clear(row)
		} else {
			copy(row, grad)
		}
	}
}
