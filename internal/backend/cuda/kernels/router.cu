// The choice of experts (model/op/router.go). A warp has one token.
//
// Floors, T 16384, 8 experts, 2 of a token: 1.3 MB (under a microsecond) and 16 exponentials
// a token; a launch takes longer.

// probs = softmax(logits), weights and index = the k largest, the lower expert
// first where they are equal.
extern "C" __global__ void router_topk(float *probs, float *weights, int *index, const X *logits, index_t rows, index_t experts, index_t k,
	index_t renormalise) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	const X *x = logits + row * experts;
	float *p = probs + row * experts;
	float top = -INFINITY, sum = 0;
	for (int e = threadIdx.x; e < experts; e += 32) top = fmaxf(top, ld(x + e));
	top = warp_max(top);
	for (int e = threadIdx.x; e < experts; e += 32) sum += expf(ld(x + e) - top);
	sum = warp_sum(sum);
	for (int e = threadIdx.x; e < experts; e += 32) p[e] = expf(ld(x + e) - top) / sum;

	float last = INFINITY, chosen = 0;
	int last_expert = -1;
	for (int j = 0; j < k; j++) {
		float best = -1;
		int expert = j; // what a row that is not a number chooses
		for (int e = threadIdx.x; e < experts; e += 32) {
			float v = p[e];
			if ((v < last || (v == last && e > last_expert)) && v > best) best = v, expert = e;
		}
		for (int o = 16; o > 0; o >>= 1) {
			float v = __shfl_xor_sync(ALL_LANES, best, o);
			int e = __shfl_xor_sync(ALL_LANES, expert, o);
			if (v > best || (v == best && e < expert)) best = v, expert = e;
		}
		last = best, last_expert = expert;
		chosen += best;
		if (threadIdx.x == 0) index[row * k + j] = expert, weights[row * k + j] = best < 0 ? sum : best;
	}
	if (!renormalise) return;
	__syncwarp();
	for (int j = threadIdx.x; j < k; j += 32) weights[row * k + j] /= chosen;
}

// dlogits = p (g - p.g), g being dprobs (or null) and, at the chosen experts,
// the gradient of the weights (or null).
extern "C" __global__ void router_topk_grad(DX *dlogits, const float *probs, const float *weights, const int *index, const float *dprobs,
	const float *dweights, index_t rows, index_t experts, index_t k, index_t renormalise) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	const float *p = probs + row * experts, *w = weights + row * k, *dw = dweights + row * k;
	const int *chosen = index + row * k;
	float shift = 0, scale = 1;
	if (dweights && renormalise) {
		float sum = 0;
		for (int j = 0; j < k; j++) sum += p[chosen[j]], shift += dw[j] * w[j];
		scale = 1.0f / sum;
	}
	auto gradient = [&](int e) {
		float g = dprobs ? dprobs[row * experts + e] : 0.0f;
		if (dweights)
			for (int j = 0; j < k; j++)
				if (chosen[j] == e) g += (dw[j] - shift) * scale;
		return g;
	};
	float dot = 0;
	for (int e = threadIdx.x; e < experts; e += 32) dot += p[e] * gradient(e);
	dot = warp_sum(dot);
	for (int e = threadIdx.x; e < experts; e += 32) st(dlogits + row * experts + e, p[e] * (gradient(e) - dot));
}
