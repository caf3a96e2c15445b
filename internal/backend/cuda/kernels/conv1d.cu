// A causal depthwise convolution with K taps and SiLU (model/op/conv1d.go). A
// thread has VEC channels and walks along a tile of a row, STEP positions at a time;
// blocks are (channels, tiles, rows). Positions before the row are those of the initial
// state s0, [B, K-1, D], and belong to the row's first document.

// Raw is what a thread reads of a position, as it is stored. STEP positions are read
// before the first is used: one alone would be waited for.
template <typename T> struct alignas(sizeof(T) * VEC) Raw {
	T v[VEC];
};
#define SEEN (K - 1 + STEP) // positions that the taps see in a step
#define BACK (K > 1 ? K - 2 : 0)

struct Row {
	const X *x;
	const float *s0;
	const int *docs;
	int dim, end;

	// load gives the inputs at position t, which may be before the row.
	void load(int t, float (&value)[VEC]) const {
		if (t >= 0) ldv(value, x + (index_t)t * dim);
		else if (s0) ldv(value, s0 + (index_t)(K - 1 + t) * dim);
		for (int j = 0; j < VEC && t < 0 && !s0; j++) value[j] = 0;
	}
	// before gives the K-1 inputs before position t.
	void before(int t, float (&seen)[SEEN][VEC]) const {
#pragma unroll
		for (int k = 0; k < K - 1; k++) load(t - K + 1 + k, seen[k]);
	}
	// opens has a bit for each of the positions from t - BACK on that matter to the taps of
	// a step: whether a document opens there.
	unsigned opens(int t) const {
		int lane = threadIdx.x & 31, at = t - BACK + lane;
		return __ballot_sync(ALL_LANES, lane < BACK + STEP && at > 0 && at < end && docs[at] != docs[at - 1]);
	}
};

inline Row row_of(const X *x, const float *s0, const int *docs, index_t dim, index_t length, index_t row, index_t d) {
	return Row{x + row * length * dim + d, s0 ? s0 + row * (K - 1) * dim + d : nullptr, docs + row * length, (int)dim, (int)length};
}

// reaches says whether no document opens in the `lag` positions up to number q of a step.
inline bool reaches(unsigned opens, int q, int lag) { return (opens >> (q + BACK + 1 - lag) & (1u << lag) - 1) == 0; }

// shift makes the last positions of a step those before the next.
inline void shift(float (&seen)[SEEN][VEC]) {
#pragma unroll
	for (int k = 0; k < K - 1; k++)
#pragma unroll
		for (int j = 0; j < VEC; j++) seen[k][j] = seen[k + STEP][j];
}

// convolve gives the sum at position q of a step. Where no document opens in sight, `open`
// is false.
template <bool open> inline float convolve(const float (&seen)[SEEN][VEC], const float (&taps)[K][VEC], float bias, unsigned opens, int q, int j) {
	float sum = bias;
#pragma unroll
	for (int k = 0; k < K; k++) sum += !open || reaches(opens, q, K - 1 - k) ? taps[k][j] * seen[q + k][j] : 0.0f;
	return sum;
}

inline void taps_of(float (&taps)[K][VEC], float (&b)[VEC], const W *w, const BIAS *bias, index_t d) {
	float all[VEC * K];
	if constexpr (VEC % 4 == 0) {
#pragma unroll
		for (int i = 0; i < VEC * K; i += 4) {
			float four[4];
			ldv(four, w + d * K + i);
#pragma unroll
			for (int j = 0; j < 4; j++) all[i + j] = four[j];
		}
	} else
		for (int i = 0; i < VEC * K; i++) all[i] = ld(w + d * K + i);
#pragma unroll
	for (int j = 0; j < VEC; j++) {
		b[j] = bias ? ld(bias + d + j) : 0.0f;
#pragma unroll
		for (int k = 0; k < K; k++) taps[k][j] = all[j * K + k];
	}
}

// Place is a thread's part of the work: all threads of a warp go along, those beyond the
// last channel with that of the last.
struct Place {
	index_t d;
	bool there;
	int first, last;

	Place(index_t length, index_t dim, index_t tile) {
		d = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC, there = d < dim, d = there ? d : dim - VEC;
		first = (int)(blockIdx.y * tile), last = (int)min(first + tile, length);
	}
};

template <bool open> inline void gated(Y *y, const Row &row, const float (&seen)[SEEN][VEC], const float (&taps)[K][VEC], const float (&b)[VEC],
	unsigned opens, int count) {
#pragma unroll
	for (int q = 0; q < STEP; q++) {
		float value[VEC];
#pragma unroll
		for (int j = 0; j < VEC; j++) {
			float v = convolve<open>(seen, taps, b[j], opens, q, j);
			value[j] = v * reciprocal(1.0f + exp2_fast(-v * LOG2E));
		}
		if (q < count) stv(y + (index_t)q * row.dim, value);
	}
}

// y = silu(conv + bias). Floors: bytes, 4 an element of bf16 (0.065 ms for 16384 x 4096 at
// 4.1 TB/s); a tap takes an instruction, the gate five, two of them of the special unit
// (0.036 ms).
extern "C" __global__ void conv1d(Y *y, const X *x, const W *w, const BIAS *bias, const int *docs, const float *s0, index_t length, index_t dim,
	index_t tile) {
	Place p(length, dim, tile);
	Row row = row_of(x, s0, docs, dim, length, blockIdx.z, p.d);
	float taps[K][VEC], b[VEC], seen[SEEN][VEC];
	taps_of(taps, b, w, bias, p.d);
	row.before(p.first, seen);
	y += blockIdx.z * length * dim + p.d;
	for (int t = p.first; t < p.last; t += STEP) {
		Raw<X> raw[STEP];
#pragma unroll
		for (int q = 0; q < STEP; q++) raw[q] = *(const Raw<X> *)(row.x + (index_t)min(t + q, p.last - 1) * row.dim);
		unsigned opens = row.opens(t);
#pragma unroll
		for (int q = 0; q < STEP; q++) ldv(seen[K - 1 + q], raw[q].v);
		int count = p.there ? p.last - t : 0;
		if (opens) gated<true>(y + (index_t)t * row.dim, row, seen, taps, b, opens, count);
		else gated<false>(y + (index_t)t * row.dim, row, seen, taps, b, 0, count);
		shift(seen);
	}
}

// s1: the last K-1 inputs, zero where they are of an earlier document than the
// last. s1 may be s0, so that all is read before anything is written.
extern "C" __global__ void conv1d_state(float *s1, const X *x, const int *docs, const float *s0, index_t length, index_t dim) {
	index_t d = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC;
	if (d >= dim) return;
	Row row = row_of(x, s0, docs, dim, length, blockIdx.y, d);
	float seen[SEEN][VEC];
	row.before((int)length, seen); // as the next position sees them
	int last = row.docs[length - 1];
#pragma unroll
	for (int k = 0; k < K - 1; k++) {
		bool same = row.docs[max((int)length - K + 1 + k, 0)] == last;
#pragma unroll
		for (int j = 0; j < VEC; j++) seen[k][j] = same ? seen[k][j] : 0.0f;
		stv(s1 + ((index_t)blockIdx.y * (K - 1) + k) * dim + d, seen[k]);
	}
}

// Back is what a thread of the gradient holds: inputs and gradients that the taps see, and
// its sums.
struct Back {
	float seen[SEEN][VEC], g[SEEN][VEC], dw[K][VEC], dbias[VEC];
};

// gradient takes the gradient at position q of a step; `mine` if the sums for the weights
// are this tile's.
template <bool open> inline void gradient(Back &s, const float (&taps)[K][VEC], const float (&b)[VEC], const float (&dy)[VEC], unsigned opens, int q,
	bool mine) {
#pragma unroll
	for (int j = 0; j < VEC; j++) {
		float v = convolve<open>(s.seen, taps, b[j], opens, q, j), z = reciprocal(1.0f + exp2_fast(-v * LOG2E));
		float g = dy[j] * z * (1.0f + v * (1.0f - z));
		s.g[K - 1 + q][j] = g;
		g = mine ? g : 0.0f;
		s.dbias[j] += g;
#pragma unroll
		for (int k = 0; k < K; k++) s.dw[k][j] += !open || reaches(opens, q, K - 1 - k) ? g * s.seen[q + k][j] : 0.0f;
	}
}

// input gives the gradient of the input K-1 positions before number q of a step: all that
// it reaches is known then.
template <bool open> inline void input(float (&dx)[VEC], const Back &s, const float (&taps)[K][VEC], unsigned opens, int q) {
#pragma unroll
	for (int k = 0; k < K; k++)
#pragma unroll
		for (int j = 0; j < VEC; j++) dx[j] += !open || reaches(opens, q + k - K + 1, k) ? s.g[q + k][j] * taps[K - 1 - k][j] : 0.0f;
}

// dx, ds0, and for each tile the sums for dw[D, K] and then dbias[D] in
// parts[tile, D (K+1)]. dx, ds0, ds1 and bias may be null.
//
// Floors: bytes, 6 an element of bf16 (0.098 ms for 16384 x 4096); about 25 instructions
// (0.06 ms).
extern "C" __global__ void __launch_bounds__(128, 3) conv1d_grad(DX *dx, float *ds0, float *parts, const X *x, const W *w, const BIAS *bias,
	const int *docs, const float *s0, const DY *dy, const float *ds1, index_t length, index_t dim, index_t tile) {
	Place p(length, dim, tile);
	int end = (int)length, stride = (int)dim;
	index_t part = (index_t)blockIdx.z * gridDim.y + blockIdx.y, state = (index_t)blockIdx.z * (K - 1) * dim + p.d;
	Row row = row_of(x, s0, docs, dim, length, blockIdx.z, p.d);
	dy += blockIdx.z * length * dim + p.d;
	if (dx) dx += blockIdx.z * length * dim + p.d;
	float taps[K][VEC], b[VEC];
	taps_of(taps, b, w, bias, p.d);
	Back s = {};
	row.before(p.first, s.seen);
	Raw<X> raw[STEP];
	Raw<DY> next[STEP];
	auto fetch = [&](int from) {
#pragma unroll
		for (int q = 0; q < STEP; q++) {
			index_t at = (index_t)min(from + q, end - 1) * stride;
			raw[q] = *(const Raw<X> *)(row.x + at), next[q] = *(const Raw<DY> *)(dy + at);
		}
	};
	fetch(p.first);
#pragma unroll 1
	for (int from = p.first; from < p.last + K - 1; from += STEP) {
		Raw<DY> dys[STEP];
#pragma unroll
		for (int q = 0; q < STEP; q++) ldv(s.seen[K - 1 + q], raw[q].v), dys[q] = next[q];
		fetch(from + STEP); // waited for in the next turn
		unsigned opens = row.opens(from);
		bool plain = !opens && from >= p.first + K - 1 && from + STEP <= p.last && dx && !ds1;
		if (plain) {
#pragma unroll
			for (int q = 0; q < STEP; q++) {
				float value[VEC], sum[VEC] = {};
				ldv(value, dys[q].v);
				gradient<false>(s, taps, b, value, 0, q, true);
				input<false>(sum, s, taps, 0, q);
				if (p.there) stv(dx + (index_t)(from + q - K + 1) * stride, sum);
			}
		} else {
#pragma unroll
			for (int q = 0; q < STEP; q++) {
				int t = from + q, at = t - K + 1;
				float value[VEC] = {}, sum[VEC] = {};
				if (t < end) ldv(value, dys[q].v);
				gradient<true>(s, taps, b, value, opens, q, t < p.last);
				if (t >= p.last + K - 1 || at < p.first && !(p.first == 0 && ds0) || !p.there) continue;
				if (ds1 && at >= end - (K - 1) && row.docs[max(at, 0)] == row.docs[end - 1]) ldv(sum, ds1 + state + (index_t)(at - (end - (K - 1))) * stride);
				input<true>(sum, s, taps, opens, q);
				if (at < 0) stv(ds0 + state + (index_t)(K - 1 + at) * stride, sum);
				else if (dx) stv(dx + (index_t)at * stride, sum);
			}
		}
		shift(s.seen), shift(s.g);
	}
	if (!p.there) return;
	float *mine = parts + part * dim * (K + 1), all[VEC * K];
#pragma unroll
	for (int j = 0; j < VEC; j++)
#pragma unroll
		for (int k = 0; k < K; k++) all[j * K + k] = s.dw[k][j];
	if constexpr (VEC % 4 == 0) {
#pragma unroll
		for (int i = 0; i < VEC * K; i += 4) {
			float four[4] = {all[i], all[i + 1], all[i + 2], all[i + 3]};
			stv(mine + p.d * K + i, four);
		}
	} else
		for (int i = 0; i < VEC * K; i++) mine[p.d * K + i] = all[i];
	stv(mine + dim * K + p.d, s.dbias);
}
