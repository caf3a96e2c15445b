// The selective scan of Mamba with its gate (model/op/selective_scan.go).
//
// A channel's N states are held by P neighbouring lanes; a thread has C channels.
// What is needed once a channel and position (the step, its exponential, the gate)
// is done for GROUP positions at a time, a lane a position: its owner, from which
// the others get it. A block has CHANNELS channels and walks along a segment of a
// row; blocks are (channels, segments, rows). Where there are too few threads to
// fill a device a row has several segments: a first pass finds what each makes of
// a zero state and how much of a state it lets through, `scan_carry` hands states
// from one to the next, and the second pass starts from these.
//
// Floors, B8 L2048 D4096 N16 in bf16 on an H200: 0.54 GB forward (0.13 ms), and
// one exponential a state and position (0.27 ms); backward 1.1 GB (0.27 ms) and,
// as states are computed twice, two exponentials (0.54 ms).

#define NP (N / P)
#define CHANNELS (THREADS / P * C)
#define TILE 32		 // positions whose B and C are in shared memory
#define CLOSED 1e30f // in place of delta where a document starts: nothing decays less

// Pack is what a thread has of C channels, as it is stored.
template <typename T> struct alignas(sizeof(T) * C) Pack {
	T v[C];
	float operator[](int c) const { return ld(v + c); }
};

template <typename T> inline Pack<T> pack_at(const T *p) { return *(const Pack<T> *)p; }
template <typename T> inline void put(T *p, const float (&v)[C]) {
	Pack<T> x;
#pragma unroll
	for (int c = 0; c < C; c++) st(x.v + c, v[c]);
	*(Pack<T> *)p = x;
}

// states_at and keep_states move the NP states of a lane.
inline void states_at(float (&v)[NP], const float *p) {
	if (NP % 4 == 0) {
#pragma unroll
		for (int n = 0; n < NP; n += 4) {
			float4 u = *(const float4 *)(p + n);
			v[n] = u.x, v[n + 1] = u.y, v[n + 2] = u.z, v[n + 3] = u.w;
		}
	} else {
#pragma unroll
		for (int n = 0; n < NP; n++) v[n] = p[n];
	}
}
inline void keep_states(float *p, const float (&v)[NP]) {
	if (NP % 4 == 0) {
#pragma unroll
		for (int n = 0; n < NP; n += 4) *(float4 *)(p + n) = make_float4(v[n], v[n + 1], v[n + 2], v[n + 3]);
	} else {
#pragma unroll
		for (int n = 0; n < NP; n++) p[n] = v[n];
	}
}

// Lane is what a thread knows of its channels.
struct Lane {
	index_t d;		// first channel
	int sub;		// which of the P lanes
	int own;		// the position of a group that it owns
	bool there;		// false beyond the last channel: computed like the last, not written
	bool writes;	// the owner
	int turn;		// its state i is number sub NP + (i ^ turn) of the channel
	float a[C][NP]; // A log2(e)
	float bias[C], skip[C];

	Lane(const TBIAS *biases, const TALOG *alog, const TSKIP *skips, index_t dim, int turn = 0) : turn(turn) {
		d = ((index_t)blockIdx.x * (THREADS / P) + threadIdx.x / P) * C;
		sub = threadIdx.x % P, own = sub / (P / GROUP);
		there = d < dim;
		writes = there && sub % (P / GROUP) == 0;
		d = there ? d : dim - C;
#pragma unroll
		for (int c = 0; c < C; c++) {
			bias[c] = ld(biases + d + c), skip[c] = ld(skips + d + c);
#pragma unroll
			for (int n = 0; n < NP; n++) a[c][n] = fminf(-expf(ld(alog + (d + c) * N + sub * NP + (n ^ turn))) * LOG2E, -1e-20f);
		}
	}
	// of is the place of the lane's states of channel c in an array [..., D, N], of
	// which the leading index is given.
	index_t of(index_t leading, index_t dim, int c) const { return (leading * dim + d + c) * N + sub * NP; }

	// read and write move a lane's states of all channels, in their own order.
	void read(float (&v)[C][NP], const float *p, index_t leading, index_t dim) const {
#pragma unroll
		for (int c = 0; c < C; c++)
#pragma unroll
			for (int n = 0; n < NP; n++) v[c][n] = p[of(leading, dim, c) + (n ^ turn)];
	}
	void write(const float (&v)[C][NP], float *p, index_t leading, index_t dim) const {
#pragma unroll
		for (int c = 0; c < C; c++)
#pragma unroll
			for (int n = 0; n < NP; n++) p[of(leading, dim, c) + (n ^ turn)] = v[c][n];
	}
};

// from_owner gives every lane of a channel what the owner of position q has.
inline float from_owner(float v, int q) { return __shfl_sync(ALL_LANES, v, q * (P / GROUP), P); }

// over_lanes sums v over the P lanes of a channel.
inline float over_lanes(float v) {
#pragma unroll
	for (int o = P / 2; o > 0; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
	return v;
}

// to_owners sums each of the `count` values over the lanes of a channel. They are
// grouped by position; the first ones of an owner become those of its position.
// Lanes exchange halves of what they hold rather than sum everything everywhere.
template <int count, int offset, int size> inline void to_owners(float (&v)[size]) {
	if constexpr (offset > 0 && count > size / GROUP) {
		bool upper = threadIdx.x & offset;
#pragma unroll
		for (int j = 0; j < count / 2; j++) {
			float send = upper ? v[j] : v[j + count / 2], keep = upper ? v[j + count / 2] : v[j];
			v[j] = keep + __shfl_xor_sync(ALL_LANES, send, offset);
		}
		to_owners<count / 2, offset / 2>(v);
	} else if constexpr (offset > 0) {
#pragma unroll
		for (int j = 0; j < count; j++) v[j] += __shfl_xor_sync(ALL_LANES, v[j], offset);
		to_owners<count, offset / 2>(v);
	}
}

// step gives delta = softplus(pre), to 2e-6 relative, and its derivative.
inline float step(float pre, float &slope) {
	float e = exp2_fast(pre * LOG2E), w = 1.0f + e, logarithm;
	asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(logarithm) : "f"(w));
	float series = e * (1.0f - e * (0.5f - e * (0.33333333f - e * (0.25f - e * (0.2f - e * 0.16666667f)))));
	slope = pre > 20.0f ? 1.0f : e * reciprocal(w);
	return pre > 20.0f ? pre : e < 0.125f ? series : logarithm * (1.0f / LOG2E);
}

// gate is silu(z), with its derivative.
inline float gate(float z, float &slope) {
	float s = reciprocal(1.0f + exp2_fast(-z * LOG2E));
	slope = s * (1.0f + z * (1.0f - s));
	return z * s;
}

struct StructScan {
	const TX *x;
	const TDT *dt;
	const TBIAS *bias;
	const TALOG *alog;
	const TB *b;
	const TC *c;
	const TSKIP *skip;
	const TZ *z;
	const int *docs;
	index_t length, dim, chunk, segment;
};

// Position is what its owner knows of a position, as stored.
struct Position {
	Pack<TX> x;
	Pack<TDT> dt;
	int doc, before;

	// load reads token `token`, whose channels are the elements from `at` on.
	void load(const StructScan &g, index_t token, bool first, index_t at) {
		x = pack_at(g.x + at), dt = pack_at(g.dt + at);
		doc = g.docs[token], before = g.docs[first ? token : token - 1];
	}
	// steps gives delta, CLOSED where a document opens, and u = delta x; zeros
	// where there is nothing.
	void steps(const Lane &lane, bool there, float (&delta)[C], float (&decay)[C], float (&u)[C], float (&slope)[C]) const {
#pragma unroll
		for (int c = 0; c < C; c++) {
			float v = step(dt[c] + lane.bias[c], slope[c]);
			delta[c] = there ? v : 0.0f, decay[c] = there && doc != before ? CLOSED : delta[c], u[c] = delta[c] * x[c];
		}
	}
};

// carry[row, segment] = the state before a segment, or, backward, the gradient of
// the state after it; `initial`[row] or zero at the end where it starts. A thread
// has a state of a channel of a row.
extern "C" __global__ void scan_carry(float *carry, const float *ends, const float *deltas, const float *initial, const TALOG *alog,
	index_t batch, index_t segments, index_t dim, index_t backward) {
	index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x, states = dim * N;
	if (i >= batch * states) return;
	index_t row = i / states, j = i % states;
	float a = fminf(-expf(ld(alog + j)) * LOG2E, -1e-20f), s = initial ? initial[i] : 0.0f;
	for (index_t k = 0; k < segments; k++) {
		index_t part = row * segments + (backward ? segments - 1 - k : k);
		carry[part * states + j] = s;
		if (k + 1 == segments) break; // nothing comes after
		s = ends[part * states + j] + exp2_fast(a * deltas[part * dim + j / N]) * s;
	}
}
