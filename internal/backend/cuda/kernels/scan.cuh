// The selective scan of Mamba with its gate (model/op/selective_scan.go).
//
// A channel's N states are held by P lanes, SPAN apart; a thread has C channels.
// What is needed once a channel and position (the step, its exponential, the gate)
// is done for GROUP positions at a time, a lane a position: its owner, from which
// the others get it. A block has CHANNELS channels and walks along a segment of a
// row; blocks are (channels, segments, rows). Where there are too few threads to
// fill a device a row has several segments: a first pass finds what each makes of
// a zero state and how much of a state it lets through, `scan_carry` hands states
// from one to the next, and the second pass starts from these. With channels enough
// for eight lanes each the kernel of scan_long.cu does it in one.
//
// Floors, B8 L2048 D4096 N16 in bf16 on an H200: 0.54 GB forward (0.13 ms), and
// one exponential a state and position (0.27 ms); backward 1.1 GB (0.27 ms) and,
// as states are computed twice, two exponentials (0.54 ms).

#define NP (N / P)
#define SPAN (32 / P) // lanes that are neighbours have neighbouring channels
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
	if constexpr (NP % 4 == 0) {
#pragma unroll
		for (int n = 0; n < NP; n += 4) {
			float4 u = *(const float4 *)(p + n);
			v[n] = u.x, v[n + 1] = u.y, v[n + 2] = u.z, v[n + 3] = u.w;
		}
	} else if constexpr (NP == 2) {
		float2 u = *(const float2 *)p;
		v[0] = u.x, v[1] = u.y;
	} else {
#pragma unroll
		for (int n = 0; n < NP; n++) v[n] = p[n];
	}
}
inline void keep_states(float *p, const float (&v)[NP]) {
	if constexpr (NP % 4 == 0) {
#pragma unroll
		for (int n = 0; n < NP; n += 4) *(float4 *)(p + n) = make_float4(v[n], v[n + 1], v[n + 2], v[n + 3]);
	} else if constexpr (NP == 2)
		*(float2 *)p = make_float2(v[0], v[1]);
	else {
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
	float a[C][NP]; // A log2(e)
	float bias[C], skip[C];

	Lane(const TBIAS *biases, const TALOG *alog, const TSKIP *skips, index_t dim) {
		int lane = threadIdx.x & 31;
		d = ((index_t)blockIdx.x * (THREADS / P) + threadIdx.x / 32 * SPAN + lane % SPAN) * C;
		sub = lane / SPAN, own = sub / (P / GROUP);
		there = d < dim;
		writes = there && sub % (P / GROUP) == 0;
		d = there ? d : dim - C;
#pragma unroll
		for (int c = 0; c < C; c++) {
			bias[c] = ld(biases + d + c), skip[c] = ld(skips + d + c);
#pragma unroll
			for (int n = 0; n < NP; n++) a[c][n] = fminf(-expf(ld(alog + (d + c) * N + sub * NP + n)) * LOG2E, -1e-20f);
		}
	}
	// of is the place of the lane's states of channel c in an array [..., D, N], of
	// which the leading index is given.
	index_t of(index_t leading, index_t dim, int c) const { return (leading * dim + d + c) * N + sub * NP; }
};

// from_owner gives every lane of a channel what the owner of position q has.
inline float from_owner(float v, int q) {
	float got;
	asm volatile("shfl.sync.idx.b32 %0, %1, %2, %3, -1;" : "=f"(got) : "f"(v), "r"(q * (P / GROUP) * SPAN), "n"((SPAN - 1) << 8 | 31));
	return got;
}

// over_lanes sums v over the P lanes of a channel.
inline float over_lanes(float v) {
#pragma unroll
	for (int o = 16; o >= SPAN; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
	return v;
}

// to_owners sums each of the `count` values over the lanes of a channel. They are
// grouped by position; the first ones of an owner become those of its position.
// Lanes exchange halves of what they hold rather than sum everything everywhere.
template <int count, int offset, int size> inline void to_owners(float (&v)[size]) {
	if constexpr (offset >= SPAN && count > size / GROUP) {
		bool upper = threadIdx.x & offset;
#pragma unroll
		for (int j = 0; j < count / 2; j++) {
			float send = upper ? v[j] : v[j + count / 2], keep = upper ? v[j + count / 2] : v[j];
			v[j] = keep + __shfl_xor_sync(ALL_LANES, send, offset);
		}
		to_owners<count / 2, offset / 2>(v);
	} else if constexpr (offset >= SPAN) {
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
	index_t length, dim, segment;
};

// opens says whether a document opens at position t of a row, but for the row's first.
inline bool opens(const StructScan &g, index_t row, index_t t) {
	const int *docs = g.docs + row * g.length + t;
	return t > 0 && docs[0] != docs[-1];
}

// Position is what its owner knows of a position, as stored.
struct Position {
	Pack<TX> x;
	Pack<TDT> dt;

	// load reads the channels that are the elements from `at` on.
	void load(const StructScan &g, index_t at) { x = pack_at(g.x + at), dt = pack_at(g.dt + at); }
	// steps gives delta, as `decay` CLOSED where a document opens, and u = delta x; zeros
	// where there is nothing.
	void steps(const Lane &lane, bool there, bool open, float (&delta)[C], float (&decay)[C], float (&u)[C], float (&slope)[C]) const {
#pragma unroll
		for (int c = 0; c < C; c++) {
			float v = step(dt[c] + lane.bias[c], slope[c]);
			delta[c] = there ? v : 0.0f, decay[c] = there && open ? CLOSED : delta[c], u[c] = delta[c] * x[c];
		}
	}
};

// Tile is what all channels share of TILE positions.
struct Tile {
	float b[TILE * N], c[TILE * N];
	bool open[TILE]; // a document opens
};

// Next is a thread's part of the tile that comes next, as it is stored: a conversion
// would wait for it.
struct Next {
	static constexpr int each = (TILE * N + THREADS - 1) / THREADS;
	TB b[each];
	TC c[each];
	int doc, before;

	// load reads the positions of a row from t on; those beyond `end` are read as the last.
	void load(const StructScan &g, index_t row, index_t t, index_t end) {
		index_t token = row * g.length + t, at = min(t + threadIdx.x, end - 1);
#pragma unroll
		for (int q = 0; q < each; q++) {
			index_t i = min((index_t)threadIdx.x + q * THREADS, (end - t) * N - 1);
			b[q] = g.b[token * N + i], c[q] = g.c[token * N + i];
		}
		doc = g.docs[row * g.length + at], before = g.docs[row * g.length + max(at - 1, (index_t)0)];
	}
	void put(Tile &tile) const {
#pragma unroll
		for (int q = 0; q < each; q++) {
			int i = threadIdx.x + q * THREADS;
			if (TILE * N % THREADS == 0 || i < TILE * N) tile.b[i] = ld(b + q), tile.c[i] = ld(c + q);
		}
		if (threadIdx.x < TILE) tile.open[threadIdx.x] = doc != before;
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
