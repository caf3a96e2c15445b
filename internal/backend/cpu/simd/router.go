package simd

// RouterWork is the number of floats that RouterTopK needs to work in.
func RouterWork(experts int) int { return rows().lanes * (experts + 7) / 8 * 8 }

// RouterTopK takes the softmax of logits[T,experts] and the k largest of each row, the lower expert first where
// they are equal. With renormalise the weights of a row are divided by their sum. work has RouterWork elements.
func RouterTopK(probs, weights []float32, index []int32, logits, work []float32, experts, k int, renormalise bool) {
	n, r := len(logits)/experts, rows()
	if k >= len(r.routerTop) || r.routerTop[k] == nil || n < r.lanes {
		routerTopK(probs, weights, index, logits, experts, k, renormalise)
		return
	}
	flag := 0
	if renormalise {
		flag = 1
	}
	groups := func(t, groups int) {
		end := t + groups*r.lanes
		r.routerTop[k](probs[t*experts:end*experts], weights[t*k:end*k], index[t*k:end*k], logits[t*experts:end*experts],
			work[:RouterWork(experts)], experts, groups, flag)
	}
	groups(0, n/r.lanes)
	if n%r.lanes > 0 {
		groups(n-r.lanes, 1) // some rows for the second time
	}
}

// routerTopK is the general form of RouterTopK.
func routerTopK(probs, weights []float32, index []int32, logits []float32, experts, k int, renormalise bool) {
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
// they were taken from, and both go through the softmax. dprobs or dweights may be nil. With renormalise work has
// k elements a row.
func RouterTopKGrad(dlogits, probs, weights []float32, index []int32, dprobs, dweights, work []float32, experts, k int, renormalise bool) {
	n := len(probs) / experts
	if n == 0 {
		return
	}
	switch {
	case dweights == nil:
		k = 0
	case renormalise:
		work = work[:n*k]
		for t := range n {
			at, end := t*k, (t+1)*k
			weightsGrad(work[at:end], probs[t*experts:][:experts], weights[at:end], dweights[at:end], index[at:end])
		}
		dweights = work
	}
	rows().routerGrad(dlogits[:n*experts], probs, dprobs, dweights, index[:n*k], n, experts, k)
}

// weightsGrad is the gradient of the probabilities p that the weights w were taken from and divided by their
// sum s: dp_i = (dw_i - sum_j dw_j w_j) / s.
func weightsGrad(dp, p, w, dw []float32, index []int32) {
	var s, shift float32
	for i, e := range index {
		s += p[e]
		shift += dw[i] * w[i]
	}
	for i, d := range dw {
		dp[i] = (d - shift) / s
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
