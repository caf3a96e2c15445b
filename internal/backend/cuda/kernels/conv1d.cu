// A causal depthwise convolution with K taps and SiLU (model/op/conv1d.go). A
// thread has VEC channels and walks along a tile of a row; blocks are (channels,
// tiles, rows). Positions before the row are those of the initial state s0,
// [B, K-1, D], and belong to the row's first document.

// Raw is what a thread reads of a position, as it is stored. BATCH positions are read
// before the first is used: one alone would be waited for.
template <typename T> struct alignas(sizeof(T) * VEC) Raw {
	T v[VEC];
};
#define BATCH 4

struct Row {
	const X *x;
	const float *s0;
	const int *docs;
	int dim;

	// load gives the inputs at position t and its document.
	void load(int t, float (&value)[VEC], int &doc) const {
		if (t >= 0) {
			ldv(value, x + (index_t)t * dim), doc = docs[t];
			return;
		}
		doc = docs[0];
		if (s0) ldv(value, s0 + (index_t)(K - 1 + t) * dim);
		for (int j = 0; j < VEC && !s0; j++) value[j] = 0;
	}
	// read takes BATCH positions from t on, those beyond the end as the last.
	void read(int t, int end, Raw<X> (&value)[BATCH], int (&doc)[BATCH]) const {
#pragma unroll
		for (int q = 0; q < BATCH; q++) {
			int at = min(t + q, end - 1);
			value[q] = *(const Raw<X> *)(x + (index_t)at * dim), doc[q] = docs[at];
		}
	}
};

inline Row row_of(const X *x, const float *s0, const int *docs, index_t dim, index_t length, index_t row, index_t d) {
	return Row{x + row * length * dim + d, s0 ? s0 + row * (K - 1) * dim + d : nullptr, docs + row * length, (int)dim};
}

// Window holds what the taps see: the last K inputs and their documents.
struct Window {
	float x[K][VEC];
	int doc[K];

	// fill takes the inputs before position t, but for the oldest, which a push drops.
	void fill(const Row &row, int t) {
		doc[0] = 0;
#pragma unroll
		for (int j = 0; j < VEC; j++) x[0][j] = 0;
#pragma unroll
		for (int k = 1; k < K; k++) row.load(t - K + k, x[k], doc[k]);
	}
	void push(const float (&value)[VEC], int document) {
#pragma unroll
		for (int k = 0; k < K; k++) {
			doc[k] = k + 1 < K ? doc[k + 1] : document;
#pragma unroll
			for (int j = 0; j < VEC; j++) x[k][j] = k + 1 < K ? x[k + 1][j] : value[j];
		}
	}
	float convolve(const float (&w)[K][VEC], float bias, int j) const {
		float sum = bias;
#pragma unroll
		for (int k = 0; k < K; k++) sum += doc[k] == doc[K - 1] ? w[k][j] * x[k][j] : 0.0f;
		return sum;
	}
};

inline void taps_of(float (&taps)[K][VEC], float (&b)[VEC], const W *w, const BIAS *bias, index_t d) {
#pragma unroll
	for (int j = 0; j < VEC; j++) {
		b[j] = bias ? ld(bias + d + j) : 0.0f;
#pragma unroll
		for (int k = 0; k < K; k++) taps[k][j] = ld(w + (d + j) * K + k);
	}
}

// y = silu(conv + bias). Floors: bytes, 4 an element of bf16 (0.065 ms for 16384 x 4096 at
// 4.1 TB/s); a tap takes two instructions, the gate eight.
extern "C" __global__ void conv1d(Y *y, const X *x, const W *w, const BIAS *bias, const int *docs, const float *s0, index_t length, index_t dim,
	index_t tile) {
	index_t d = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
	int first = (int)(blockIdx.y * tile), last = (int)min(first + tile, length);
	if (d >= dim) return;
	Row row = row_of(x, s0, docs, dim, length, blockIdx.z, d);
	float taps[K][VEC], b[VEC];
	taps_of(taps, b, w, bias, d);
	Window window;
	window.fill(row, first);
	y += blockIdx.z * length * dim + d;
	for (int t = first; t < last; t += BATCH) {
		Raw<X> raw[BATCH];
		int doc[BATCH];
		row.read(t, last, raw, doc);
#pragma unroll
		for (int q = 0; q < BATCH; q++) {
			float value[VEC];
			ldv(value, raw[q].v);
			window.push(value, doc[q]);
#pragma unroll
			for (int j = 0; j < VEC; j++) {
				float v = window.convolve(taps, b[j], j);
				value[j] = v * reciprocal(1.0f + exp2_fast(-v * LOG2E));
			}
			if (t + q < last) stv(y + (index_t)(t + q) * dim, value);
		}
	}
}

// s1: the last K-1 inputs, zero where they are of an earlier document than the
// last. s1 may be s0, so that all is read before anything is written.
extern "C" __global__ void conv1d_state(float *s1, const X *x, const int *docs, const float *s0, index_t length, index_t dim) {
	index_t d = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
	if (d >= dim) return;
	Row row = row_of(x, s0, docs, dim, length, blockIdx.y, d);
	Window window;
	window.fill(row, (int)length); // as the next position sees them
#pragma unroll
	for (int k = 1; k < K; k++) {
#pragma unroll
		for (int j = 0; j < VEC; j++) window.x[k][j] = window.doc[k] == window.doc[K - 1] ? window.x[k][j] : 0.0f;
		stv(s1 + ((index_t)blockIdx.y * (K - 1) + k - 1) * dim + d, window.x[k]);
	}
}

// dx, ds0, and for each tile the sums for dw[D, K] and then dbias[D] in
// parts[tile, D (K+1)]. dx, ds0, ds1 and bias may be null.
//
// Floors: bytes, 6 an element of bf16 (0.098 ms for 16384 x 4096); about 40 instructions
// (0.04 ms).
extern "C" __global__ void conv1d_grad(DX *dx, float *ds0, float *parts, const X *x, const W *w, const BIAS *bias, const int *docs,
	const float *s0, const DY *dy, const float *ds1, index_t length, index_t dim, index_t tile) {
	index_t d = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
	int first = (int)(blockIdx.y * tile), last = (int)min(first + tile, length), end = (int)length, stride = (int)dim;
	if (d >= dim) return;
	index_t part = (index_t)blockIdx.z * gridDim.y + blockIdx.y, state = (index_t)blockIdx.z * (K - 1) * dim + d;
	Row row = row_of(x, s0, docs, dim, length, blockIdx.z, d);
	dy += blockIdx.z * length * dim + d;
	if (dx) dx += blockIdx.z * length * dim + d;
	float taps[K][VEC], b[VEC], dw[K][VEC] = {}, dbias[VEC] = {}, g[K][VEC] = {}; // g: of the last K positions
	taps_of(taps, b, w, bias, d);
	Window window;
	window.fill(row, first);
	Raw<X> raw[BATCH];
	Raw<DY> dys[BATCH];
	int docs_of[BATCH];
#pragma unroll 1
	for (int from = first; from < last + K - 1; from += BATCH) {
		row.read(from, end, raw, docs_of);
#pragma unroll
		for (int q = 0; q < BATCH; q++) dys[q] = *(const Raw<DY> *)(dy + (index_t)min(from + q, end - 1) * stride);
#pragma unroll
		for (int q = 0; q < BATCH; q++) {
			int t = from + q;
			float value[VEC] = {}, gradient[VEC] = {};
			if (t < end) ldv(value, raw[q].v), ldv(gradient, dys[q].v);
			window.push(value, t < end ? docs_of[q] : 0);
#pragma unroll
			for (int j = 0; j < VEC; j++) {
				float v = window.convolve(taps, b[j], j), s = reciprocal(1.0f + exp2_fast(-v * LOG2E));
				gradient[j] *= s * (1.0f + v * (1.0f - s));
#pragma unroll
				for (int k = 0; k < K; k++) {
					g[k][j] = k + 1 < K ? g[k + 1][j] : gradient[j];
					if (t < last && window.doc[k] == window.doc[K - 1]) dw[k][j] += gradient[j] * window.x[k][j];
				}
				if (t < last) dbias[j] += gradient[j];
			}
			int at = t - K + 1; // all that it reaches is known now
			if (t >= last + K - 1 || at < first && !(first == 0 && ds0)) continue;
			bool final = ds1 && at >= end - (K - 1) && window.doc[0] == row.docs[end - 1];
			float sum[VEC] = {};
			if (final) ldv(sum, ds1 + state + (index_t)(at - (end - (K - 1))) * stride);
#pragma unroll
			for (int k = 0; k < K; k++)
#pragma unroll
				for (int j = 0; j < VEC; j++) sum[j] += window.doc[k] == window.doc[0] ? g[k][j] * taps[K - 1 - k][j] : 0.0f;
			if (at < 0) stv(ds0 + state + (index_t)(K - 1 + at) * stride, sum);
			else if (dx) stv(dx + (index_t)at * stride, sum);
		}
	}
	float *mine = parts + part * dim * (K + 1);
#pragma unroll
	for (int j = 0; j < VEC; j++) {
#pragma unroll
		for (int k = 0; k < K; k++) mine[(d + j) * K + k] = dw[k][j];
		mine[dim * K + d + j] = dbias[j];
	}
}
