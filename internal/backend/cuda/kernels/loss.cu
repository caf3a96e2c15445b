// Cross-entropy over a vocabulary (model/op/cross_entropy.go). A block has one
// token.

// lse = log sum exp(logits), nll = lse - logits[target], 0 without a target.
//
// Floor: bytes, the logits once.
extern "C" __global__ void cross_entropy(float *nll, float *lse, word_t *faults, const X *logits, const int *targets, index_t vocab) {
	index_t t = blockIdx.x;
	const X *x = logits + t * vocab;
	float top = -INFINITY, sum = 0;
	for (index_t i = threadIdx.x * VEC; i < vocab; i += blockDim.x * VEC) {
		float v[VEC], m = top;
		ldv(v, x + i);
		for (int j = 0; j < VEC; j++) m = fmaxf(m, v[j]);
		if (m > top) sum *= expf(top - m), top = m;
		for (int j = 0; j < VEC; j++) sum += expf(v[j] - top);
	}
	// The sums of threads, then of warps, each with its own largest element.
	__shared__ float tops[32];
	float all = warp_max(top);
	if ((threadIdx.x & 31) == 0) tops[threadIdx.x >> 5] = all;
	__syncthreads();
	int lane = threadIdx.x & 31;
	all = warp_max(lane < (int)(blockDim.x >> 5) ? tops[lane] : -INFINITY);
	sum = block_sum(top == -INFINITY ? sum : sum * expf(top - all));
	if (threadIdx.x > 0) return;
	float l = all + logf(sum);
	int target = targets[t];
	if (target >= vocab) {
		report(faults, FAULT_TARGET, t, target);
		target = -1;
	}
	if (lse) lse[t] = l;
	nll[t] = target < 0 ? 0.0f : l - ld(x + target);
}

// dlogits = dloss (softmax(logits) - onehot(target)), zero without a target.
// dlogits may be logits.
extern "C" __global__ void cross_entropy_grad(DX *dlogits, const X *logits, const int *targets, const float *lse, const float *dloss,
	index_t vocab) {
	index_t t = blockIdx.x, at = t * vocab;
	int target = targets[t];
	float l = lse[t], scale = target < 0 ? 0.0f : *dloss;
	for (index_t i = threadIdx.x * VEC; i < vocab; i += blockDim.x * VEC) {
		float v[VEC];
		ldv(v, logits + at + i);
		for (int j = 0; j < VEC; j++) v[j] = target < 0 ? 0.0f : scale * (expf(v[j] - l) - (i + j == target ? 1.0f : 0.0f));
		stv(dlogits + at + i, v);
	}
}
