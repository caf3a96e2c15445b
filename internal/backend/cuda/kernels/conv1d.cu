// A causal depthwise convolution with K taps and SiLU (model/op/conv1d.go). A
// thread has one channel and walks along a tile of a row; blocks are (channels,
// tiles, rows). Positions before the row are those of the initial state s0,
// [B, K-1, D], and belong to the row's first document.

struct Row {
	const X *x;
	const float *s0;
	const int *docs;
	index_t dim, length;

	// load gives the input at position t and its document.
	void load(index_t t, float &value, int &doc) const {
		if (t >= 0) {
			value = ld(x + t * dim), doc = docs[t];
		} else {
			value = s0 ? s0[(K - 1 + t) * dim] : 0.0f, doc = docs[0];
		}
	}
};

inline Row row_of(const X *x, const float *s0, const int *docs, index_t dim, index_t length, index_t row, index_t d) {
	return Row{x + row * length * dim + d, s0 ? s0 + row * (K - 1) * dim + d : nullptr, docs + row * length, dim, length};
}

// Window holds what the taps see: the last K inputs and their documents.
struct Window {
	float x[K];
	int doc[K];

	void push(float value, int document) {
#pragma unroll
		for (int k = 0; k + 1 < K; k++) x[k] = x[k + 1], doc[k] = doc[k + 1];
		x[K - 1] = value, doc[K - 1] = document;
	}
	float convolve(const float (&w)[K], float bias) const {
		float sum = bias;
#pragma unroll
		for (int k = 0; k < K; k++) sum += doc[k] == doc[K - 1] ? w[k] * x[k] : 0.0f;
		return sum;
	}
	// fill takes the inputs before position t, but for the oldest, which a push drops.
	void fill(const Row &row, index_t t) {
		x[0] = 0, doc[0] = 0;
#pragma unroll
		for (int k = 1; k < K; k++) row.load(t - K + k, x[k], doc[k]);
	}
};

// y = silu(conv + bias). Floor: bytes, 8 an element of float.
extern "C" __global__ void conv1d(Y *y, const X *x, const W *w, const BIAS *bias, const int *docs, const float *s0, index_t length, index_t dim,
	index_t tile) {
	index_t d = (index_t)blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * tile;
	if (d >= dim) return;
	Row row = row_of(x, s0, docs, dim, length, blockIdx.z, d);
	float taps[K], b = bias ? ld(bias + d) : 0.0f;
#pragma unroll
	for (int k = 0; k < K; k++) taps[k] = ld(w + d * K + k);
	Window window;
	window.fill(row, first);
#pragma unroll 4
	for (index_t t = first; t < min(first + tile, length); t++) {
		float value;
		int doc;
		row.load(t, value, doc);
		window.push(value, doc);
		st(y + (blockIdx.z * length + t) * dim + d, silu(window.convolve(taps, b)));
	}
}

// s1: the last K-1 inputs, zero where they are of an earlier document than the
// last. s1 may be s0, so that all is read before anything is written.
extern "C" __global__ void conv1d_state(float *s1, const X *x, const int *docs, const float *s0, index_t length, index_t dim) {
	index_t d = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
	if (d >= dim) return;
	Row row = row_of(x, s0, docs, dim, length, blockIdx.y, d);
	Window window;
	window.fill(row, length); // as the next position sees them
#pragma unroll
	for (int k = 1; k < K; k++) s1[((index_t)blockIdx.y * (K - 1) + k - 1) * dim + d] = window.doc[k] == window.doc[K - 1] ? window.x[k] : 0.0f;
}

// dx, ds0, and for each tile the sums for dw[D, K] and then dbias[D] in
// parts[tile, D (K+1)]. dx, ds0, ds1 and bias may be null.
extern "C" __global__ void conv1d_grad(DX *dx, float *ds0, float *parts, const X *x, const W *w, const BIAS *bias, const int *docs,
	const float *s0, const DY *dy, const float *ds1, index_t length, index_t dim, index_t tile) {
	index_t d = (index_t)blockIdx.x * blockDim.x + threadIdx.x, first = blockIdx.y * tile, last = min(first + tile, length);
	if (d >= dim) return;
	index_t base = blockIdx.z * length, part = (index_t)blockIdx.z * gridDim.y + blockIdx.y;
	Row row = row_of(x, s0, docs, dim, length, blockIdx.z, d);
	float taps[K], b = bias ? ld(bias + d) : 0.0f, dw[K] = {}, dbias = 0, g[K] = {}; // g: of the last K positions
#pragma unroll
	for (int k = 0; k < K; k++) taps[k] = ld(w + d * K + k);
	Window window;
	window.fill(row, first);
	for (index_t t = first; t < last + K - 1; t++) {
		float value = 0, gradient = 0;
		int doc = 0;
		if (t < length) row.load(t, value, doc);
		window.push(value, doc);
		if (t < length) gradient = ld(dy + (base + t) * dim + d) * silu_grad(window.convolve(taps, b));
#pragma unroll
		for (int k = 0; k < K; k++) {
			g[k] = k + 1 < K ? g[k + 1] : gradient;
			if (t < last && window.doc[k] == window.doc[K - 1]) dw[k] += gradient * window.x[k];
		}
		if (t < last) dbias += gradient;
		index_t at = t - K + 1; // all that it reaches is known now
		if (at < first && !(first == 0 && ds0)) continue;
		float sum = 0;
#pragma unroll
		for (int q = 0; q < K; q++) sum += window.doc[q] == window.doc[0] ? g[q] * taps[K - 1 - q] : 0.0f;
		if (ds1 && at >= length - (K - 1) && window.doc[0] == row.docs[length - 1])
			sum += ds1[((index_t)blockIdx.z * (K - 1) + at - (length - (K - 1))) * dim + d];
		if (at < 0) ds0[((index_t)blockIdx.z * (K - 1) + K - 1 + at) * dim + d] = sum;
		else if (dx) st(dx + (base + at) * dim + d, sum);
	}
	float *mine = parts + part * dim * (K + 1);
#pragma unroll
	for (int k = 0; k < K; k++) mine[d * K + k] = dw[k];
	mine[dim * K + d] = dbias;
}
