// The load-balancing loss (model/op/router_aux.go). LAYERS is the number of MoE
// layers.

struct StructLayers {
	const float *probs[LAYERS];
	const int *index[LAYERS];
	float *dprobs[LAYERS];
};

// Tokens are counted in tiles. For each layer, row and tile, counts[E] are the
// assignments and sums[E] the probabilities; valid counts the tokens of a row's
// tile. One block: grid (tiles, batch, layers), a thread for each expert.
extern "C" __global__ void aux_parts(StructLayers l, float *counts, float *sums, float *valid, const int *docs, index_t length, index_t tile,
	index_t experts, index_t k) {
	index_t row = blockIdx.y, layer = blockIdx.z, part = (layer * gridDim.y + row) * gridDim.x + blockIdx.x;
	index_t first = row * length + (index_t)blockIdx.x * tile, last = min(first + tile, (row + 1) * length);
	const float *probs = l.probs[layer];
	const int *index = l.index[layer];
	for (index_t e = threadIdx.x; e < experts; e += blockDim.x) {
		float count = 0, sum = 0, tokens = 0;
		for (index_t t = first; t < last; t++) {
			if (docs[t] < 0) continue;
			tokens += 1;
			sum += probs[t * experts + e];
			for (int j = 0; j < k; j++) count += index[t * k + j] == e;
		}
		counts[part * experts + e] = count;
		sums[part * experts + e] = sum;
		if (layer == 0 && e == 0) valid[row * gridDim.x + blockIdx.x] = tokens;
	}
}

// aux, load and, for the gradient, share[group, E] = f / n: the mean assignments
// of a group divided by its tokens. A group is a layer's row, or everything.
// aux, load and share may be null. One block.
extern "C" __global__ void aux_total(float *aux, float *load, float *share, const float *counts, const float *sums, const float *valid,
	index_t layers, index_t batch, index_t tiles, index_t experts, index_t whole) {
	index_t groups = whole ? 1 : layers * batch;
	double loss = 0;
	for (index_t i = threadIdx.x; i < groups * experts; i += blockDim.x) {
		index_t group = i / experts, e = i % experts, row = group % batch;
		double n = 0, f = 0, p = 0;
		index_t first = whole ? 0 : group * tiles, end = whole ? layers * batch * tiles : first + tiles;
		for (index_t t = first; t < end; t++) f += counts[t * experts + e], p += sums[t * experts + e];
		for (index_t t = whole ? 0 : row * tiles; t < (whole ? batch : row + 1) * tiles; t++) n += valid[t];
		if (whole) n *= layers;
		if (n > 0) loss += f / n * (p / n);
		if (share) share[i] = n > 0 ? (float)(f / n / n) : 0.0f;
	}
	loss = block_sum(loss);
	if (aux && threadIdx.x == 0) *aux = (float)(loss * experts / (whole ? 1 : layers));
	if (!load) return;
	for (index_t i = threadIdx.x; i < layers * experts; i += blockDim.x) {
		float sum = 0;
		for (index_t t = 0; t < batch * tiles; t++) sum += counts[(i / experts * batch * tiles + t) * experts + i % experts];
		load[i] = sum;
	}
}

// dprobs = daux weight E f / n, zero for padding. Grid (blocks of elements, layers).
extern "C" __global__ void aux_grad(StructLayers l, const float *share, const float *daux, const int *docs, index_t layers, index_t batch,
	index_t length, index_t experts, index_t whole) {
	index_t layer = blockIdx.y, n = batch * length * experts;
	float *d = l.dprobs[layer];
	if (!d) return;
	float scale = *daux * experts / (whole ? 1 : layers);
	for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (index_t)gridDim.x * blockDim.x) {
		index_t t = i / experts, group = whole ? 0 : layer * batch + t / length;
		d[i] = docs[t] < 0 ? 0.0f : scale * share[group * experts + i % experts];
	}
}
