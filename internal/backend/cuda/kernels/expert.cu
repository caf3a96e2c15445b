// Rows of tokens to and from the rows of their experts (model/op/expert.go).
//
// Floors, T 16384, two experts of a token, H 2048 in bf16: each row read once and written
// once, 201 MB to the experts or back (0.049 ms at 4.1 TB/s), 335 MB for the gradient of
// the way back (0.082 ms); at most four operations an element.

#define TOGETHER 4 // rows that a thread reads before it writes

// xs[s] = x[source[s] / k]. A block has TOGETHER rows for each of its own.
extern "C" __global__ void dispatch(Y *xs, const X *x, const int *source, index_t rows, index_t k, index_t h) {
	index_t row = ((index_t)blockIdx.x * blockDim.y + threadIdx.y) * TOGETHER;
	if (row >= rows) return;
	index_t from[TOGETHER];
#pragma unroll
	for (int q = 0; q < TOGETHER; q++) from[q] = source[min(row + q, rows - 1)] / (int)k * h;
	for (index_t i = (index_t)threadIdx.x * VEC; i < h; i += blockDim.x * VEC) {
		float v[TOGETHER][VEC];
#pragma unroll
		for (int q = 0; q < TOGETHER; q++) ldv(v[q], x + from[q] + i);
#pragma unroll
		for (int q = 0; q < TOGETHER; q++)
			if (row + q < rows) stv(xs + (row + q) * h + i, v[q]);
	}
}

// y[t] = sum over j of weights[t, j] x[slot[t, j]]; weights may be null, for ones.
extern "C" __global__ void combine(Y *y, const X *x, const float *weights, const int *slot, index_t rows, index_t k, index_t h) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	for (index_t i = (index_t)threadIdx.x * VEC; i < h; i += blockDim.x * VEC) {
		float sum[VEC] = {}, v[VEC];
		for (index_t j = 0; j < k; j++) {
			ldv(v, x + slot[row * k + j] * h + i);
			float w = weights ? weights[row * k + j] : 1.0f;
			for (int c = 0; c < VEC; c++) sum[c] += w * v[c];
		}
		stv(y + row * h + i, sum);
	}
}

// dys[slot] = weights dy, dweights = ys[slot] . dy. A block has one token; dys
// and dweights may be null.
extern "C" __global__ void combine_grad(Y *dys, float *dweights, const X *ys, const float *weights, const int *slot, const DY *dy, index_t k,
	index_t h) {
	index_t t = blockIdx.x;
	for (index_t j = 0; j < k; j++) {
		index_t at = slot[t * k + j] * h;
		float w = weights[t * k + j], dot = 0;
		for (index_t i = threadIdx.x * VEC; i < h; i += blockDim.x * VEC) {
			float g[VEC], v[VEC];
			ldv(g, dy + t * h + i), ldv(v, ys + at + i);
			for (int c = 0; c < VEC; c++) {
				dot += g[c] * v[c];
				g[c] *= w;
			}
			if (dys) stv(dys + at + i, g);
		}
		if (!dweights) continue;
		dot = block_sum(dot);
		if (threadIdx.x == 0) dweights[t * k + j] = dot;
	}
}
