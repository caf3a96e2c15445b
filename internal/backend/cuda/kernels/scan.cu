// The selective scan of Mamba with its gate (model/op/selective_scan.go).
//
// A channel has N states, held in the registers of P neighbouring lanes; a block
// has THREADS / P channels and walks along a segment of a row. Blocks are
// (channels, segments, rows). Where there are too few channels to fill a device
// a row has several segments: a first pass finds what each makes of a zero state
// and how much of a state it lets through, `scan_carry` hands states from one
// to the next, and the second pass starts from these.
//
// Floors, B8 L2048 D4096 N16 in bf16 on an H200: 0.54 GB forward (0.13 ms), and
// one exponential a state and position (0.26 ms).

#define NP (N / P)
#define CHANNELS (THREADS / P)
#define BLOCKED 1e30f // sum of delta over a segment in which a document starts

// Lane is what a thread knows of its channel.
struct Lane {
	index_t d;	 // channel
	int sub;	 // which of the P lanes
	bool there;	 // false beyond the last channel: computed like the last, not written
	float a[NP]; // A log2(e)
	float bias, skip;

	Lane(const TBIAS *biases, const TALOG *alog, const TSKIP *skips, index_t dim) {
		d = (index_t)blockIdx.x * CHANNELS + threadIdx.x / P;
		sub = threadIdx.x % P;
		there = d < dim;
		d = there ? d : dim - 1;
		bias = ld(biases + d), skip = skips ? ld(skips + d) : 0.0f;
#pragma unroll
		for (int i = 0; i < NP; i++) a[i] = -expf(ld(alog + d * N + sub * NP + i)) * LOG2E;
	}
	// of is the place of the lane's states in an array [..., D, N], of which the
	// leading index is given.
	index_t of(index_t leading, index_t dim) const { return (leading * dim + d) * N + sub * NP; }
};

// over_lanes sums over the P lanes of a channel.
inline float over_lanes(float v) {
#pragma unroll
	for (int o = P / 2; o > 0; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
	return v;
}

// states_of reads the lane's part of a position's B or C.
inline void states_of(float (&v)[NP], const float *p) {
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

// step gives delta = softplus(pre) and its derivative.
inline float step(float pre, float &slope) {
	float e = expf(pre);
	slope = pre > 20.0f ? 1.0f : e * reciprocal(1.0f + e);
	return pre > 20.0f ? pre : log1pf(e);
}

// gate is silu(z), with its derivative.
inline float gate(float z, float &slope) {
	float s = reciprocal(1.0f + expf(-z));
	slope = s * (1.0f + z * (1.0f - s));
	return z * s;
}

#define TILE 32 // positions whose B and C are in shared memory

// Going on from one document to the next, a state's decay gets this exponent.
#define NEVER -1e30f

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

// Outputs of a walk forward. A first pass writes ends[row, segment, D, N] and the
// sum of delta in deltas[row, segment, D]; the other y, the final state h1, and
// starts: the states before each chunk, each of which may be null.
struct Walk {
	TY *y;
	float *h1, *starts, *ends, *deltas;
};

// walk goes along a segment from the states `from`, or from zero.
template <bool first_pass> inline void walk(const StructScan &g, const Walk &out, const float *from) {
	__shared__ __align__(16) float bs[TILE * N], cs[TILE * N];
	__shared__ float open[TILE];
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, begin = blockIdx.y * g.segment, origin = row * g.length + begin;
	int count = (int)min(g.segment, g.length - begin), stride = (int)g.dim, chunk = (int)g.chunk;
	index_t chunks = (g.length + g.chunk - 1) / g.chunk;
	Lane lane(g.bias, g.alog, g.skip, g.dim);
	const TX *x = g.x + origin * g.dim + lane.d;
	const TDT *dt = g.dt + origin * g.dim + lane.d;
	const TZ *z = g.z + origin * g.dim + lane.d;
	TY *y = out.y ? out.y + origin * g.dim + lane.d : nullptr;
	float *starts = out.starts ? out.starts + lane.of(row * chunks + begin / g.chunk, g.dim) : nullptr;
	float s[NP], through = 0;
#pragma unroll
	for (int n = 0; n < NP; n++) s[n] = from ? from[lane.sub * NP + n] : 0.0f;

	// What is read ahead stays as it is stored: a conversion would wait for it.
	TX xs[AHEAD];
	TDT ts[AHEAD];
	TZ zs[AHEAD];
	auto load = [&](int t) {
#pragma unroll
		for (int q = 0; q < AHEAD; q++) {
			index_t at = (index_t)min(t + q, count - 1) * stride;
			xs[q] = x[at], ts[q] = dt[at];
			if (!first_pass) zs[q] = z[at];
		}
	};
	load(0);
	int until = 0; // the next chunk starts
	for (int tile = 0; tile < count; tile += TILE) {
		__syncthreads();
		for (int i = threadIdx.x; i < TILE * N; i += THREADS) {
			bool there = tile + i / N < count;
			bs[i] = there ? ld(g.b + (origin + tile) * N + i) : 0.0f, cs[i] = there ? ld(g.c + (origin + tile) * N + i) : 0.0f;
		}
		for (int i = threadIdx.x; i < TILE; i += THREADS)
			open[i] = tile + i < count && begin + tile + i > 0 && g.docs[origin + tile + i] != g.docs[origin + tile + i - 1] ? NEVER : 0.0f;
		__syncthreads();
		for (int i = 0; i < TILE && tile + i < count; i += AHEAD) {
			float xn[AHEAD], tn[AHEAD], zn[AHEAD];
#pragma unroll
			for (int q = 0; q < AHEAD; q++) xn[q] = ld(&xs[q]), tn[q] = ld(&ts[q]), zn[q] = first_pass ? 0.0f : ld(&zs[q]);
			load(tile + i + AHEAD);
			if (!first_pass && starts && until == 0) {
				until = chunk;
				if (lane.there)
#pragma unroll
					for (int n = 0; n < NP; n++) starts[n] = s[n];
				starts += (index_t)stride * N;
			}
			until -= AHEAD;
#pragma unroll
			for (int q = 0; q < AHEAD; q++) {
				bool there = tile + i + q < count;
				float slope, delta = there ? step(tn[q] + lane.bias, slope) : 0.0f, u = delta * xn[q], sum = 0, bn[NP], cn[NP];
				float over = open[i + q];
				states_of(bn, bs + (i + q) * N + lane.sub * NP), states_of(cn, cs + (i + q) * N + lane.sub * NP);
				if (first_pass) through = over != 0 ? BLOCKED : through + delta;
#pragma unroll
				for (int n = 0; n < NP; n++) {
					s[n] = exp2_fast(lane.a[n] * delta + over) * s[n] + u * bn[n];
					sum += s[n] * cn[n];
				}
				if (first_pass) continue;
				sum = over_lanes(sum) + lane.skip * xn[q];
				if (y && there && lane.sub == 0 && lane.there) st(y + (index_t)(tile + i + q) * stride, sum * gate(zn[q], slope));
			}
		}
	}
	if (!lane.there) return;
	float *to = first_pass ? out.ends + lane.of(part, g.dim) : out.h1 && begin + count == g.length ? out.h1 + lane.of(row, g.dim) : nullptr;
	if (first_pass && lane.sub == 0) out.deltas[part * g.dim + lane.d] = through;
#pragma unroll
	for (int n = 0; n < NP; n++)
		if (to) to[n] = s[n];
}

extern "C" __global__ void __launch_bounds__(THREADS) scan_forward_ends(float *ends, float *deltas, StructScan g) {
	walk<true>(g, Walk{nullptr, nullptr, nullptr, ends, deltas}, nullptr);
}

// carry[row, segment, D, N] are the states to start from; without it h0, or zero.
// h1 may be h0.
extern "C" __global__ void __launch_bounds__(THREADS) scan_forward(TY *y, float *h1, float *starts, const float *carry, const float *h0, StructScan g) {
	index_t d = min((index_t)blockIdx.x * CHANNELS + threadIdx.x / P, g.dim - 1), row = blockIdx.z;
	const float *from = carry ? carry + (row * gridDim.y + blockIdx.y) * g.dim * N : h0 ? h0 + row * g.dim * N : nullptr;
	walk<false>(g, Walk{y, h1, starts, nullptr, nullptr}, from ? from + d * N : nullptr);
}

// The first pass of the gradient: ends[row, segment, D, N] = what a segment makes
// of a zero gradient of the state after it.
extern "C" __global__ void __launch_bounds__(THREADS) scan_backward_ends(float *ends, float *deltas, const TDY *dys, StructScan g) {
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, begin = blockIdx.y * g.segment, origin = row * g.length + begin;
	int count = (int)min(g.segment, g.length - begin), stride = (int)g.dim;
	Lane lane(g.bias, g.alog, g.skip, g.dim);
	const int *docs = g.docs + origin;
	const TC *c = g.c + origin * N + lane.sub * NP;
	const TDT *dt = g.dt + origin * g.dim + lane.d;
	const TDY *dy = dys + origin * g.dim + lane.d;
	const TZ *z = g.z + origin * g.dim + lane.d;
	float ds[NP] = {}, through = 0;
#pragma unroll 4
	for (int t = count - 1; t >= 0; t--) {
		float slope, delta = step(ld(dt + (index_t)t * stride) + lane.bias, slope);
		float gradient = ld(dy + (index_t)t * stride) * gate(ld(z + (index_t)t * stride), slope);
		float over = begin + t > 0 && docs[t] != docs[t - 1] ? NEVER : 0.0f;
		through = over != 0 ? BLOCKED : through + delta;
#pragma unroll
		for (int n = 0; n < NP; n++) {
			float h = ds[n] + gradient * ld(c + (index_t)t * N + n);
			ds[n] = h * exp2_fast(lane.a[n] * delta + over);
		}
	}
	if (!lane.there) return;
	if (lane.sub == 0) deltas[part * g.dim + lane.d] = through;
#pragma unroll
	for (int n = 0; n < NP; n++) ends[lane.of(part, g.dim) + n] = ds[n];
}

// carry[row, segment] = the state before a segment, or, backward, the gradient of
// the state after it; `initial`[row] or zero at the end where it starts. A thread
// has a state of a channel of a row.
extern "C" __global__ void scan_carry(float *carry, const float *ends, const float *deltas, const float *initial, const TALOG *alog,
	index_t batch, index_t segments, index_t dim, index_t backward) {
	index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x, states = dim * N;
	if (i >= batch * states) return;
	index_t row = i / states, j = i % states;
	float a = -expf(ld(alog + j)) * LOG2E, s = initial ? initial[i] : 0.0f;
	for (index_t k = 0; k < segments; k++) {
		index_t part = row * segments + (backward ? segments - 1 - k : k);
		carry[part * states + j] = s;
		s = ends[part * states + j] + exp2_fast(a * deltas[part * dim + j / N]) * s;
	}
}

// Grads are the outputs of the gradient. dx, ddt, dz and dh0 may be null. The
// sums over rows and segments come in parts: dbias, dskip [part, D] and dalog
// [part, D, N]; those over channels in parts of CHANNELS: db, dc [part, T, N].
struct StructGrads {
	TDX *dx;
	TDDT *ddt;
	TDZ *dz;
	float *dh0, *dbias, *dskip, *dalog, *db, *dc;
};

#define WARPS (THREADS / 32)
#define VALUES (2 * NP)

// over_channels sums v over the channels of a warp, for each of the P lanes, and
// stores the sums. Instead of summing each value in every lane, lanes exchange
// halves of the `count` values that they hold; what a lane holds starts at base.
template <int count, int offset> inline void over_channels(float (&v)[VALUES], int base, float *to) {
	int lane = threadIdx.x & 31;
	if constexpr (offset < P) {
#pragma unroll
		for (int j = 0; j < count; j++) to[(lane % P) * VALUES + base + j] = v[j];
	} else if constexpr (count % 2 == 0) {
		bool upper = lane & offset;
#pragma unroll
		for (int j = 0; j < count / 2; j++) {
			float send = upper ? v[j] : v[j + count / 2], keep = upper ? v[j + count / 2] : v[j];
			v[j] = keep + __shfl_xor_sync(ALL_LANES, send, offset);
		}
		over_channels<count / 2, offset / 2>(v, base + (upper ? count / 2 : 0), to);
	} else {
#pragma unroll
		for (int j = 0; j < count; j++) v[j] += __shfl_xor_sync(ALL_LANES, v[j], offset);
		over_channels<count, offset / 2>(v, base, to);
	}
}

// The gradient walks a segment from its end, chunk by chunk. In a chunk it first
// goes forward from the saved state and notes the state every SUB positions, in
// shared memory; then for each SUB positions from the last it computes the states
// again, in registers, and goes back over them.
//
// dcarry[row, segment, D, N] is the gradient of the state after each segment;
// without it dh1, or zero.
extern "C" __global__ void __launch_bounds__(THREADS, 2) scan_backward(StructGrads out, const float *dcarry, const float *dh1, const float *starts,
	const TDY *dy, StructScan g) {
	extern __shared__ __align__(16) float shared[];
	int chunk = (int)g.chunk, notes = (chunk + SUB - 1) / SUB, padded = notes * SUB, stride = (int)g.dim;
	float *noted = shared;						 // [notes, NP, THREADS]
	float *bs = noted + notes * NP * THREADS;	 // [padded, N]
	float *cs = bs + padded * N;				 // [padded, N]
	float *sums = cs + padded * N;				 // [WARPS, SUB, P, VALUES]
	float *open = sums + WARPS * SUB * P * VALUES; // [padded]
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, first = blockIdx.y * g.segment, last = min(first + g.segment, g.length);
	index_t chunks = (g.length + g.chunk - 1) / g.chunk, tokens = gridDim.z * g.length;
	Lane lane(g.bias, g.alog, g.skip, g.dim);
	bool writes = lane.sub == 0 && lane.there;
	float ds[NP], dalog[NP] = {}, dbias = 0, dskip = 0;
	const float *from = dcarry ? dcarry + lane.of(part, g.dim) : dh1 ? dh1 + lane.of(row, g.dim) : nullptr;
#pragma unroll
	for (int n = 0; n < NP; n++) ds[n] = from ? from[n] : 0.0f;

	for (index_t k = (last - 1) / chunk; k * chunk >= first; k--) {
		index_t base = k * chunk, at0 = row * g.length + base, origin = at0 * g.dim + lane.d; // of the chunk
		int count = (int)min((index_t)chunk, last - base);
		__syncthreads();
		for (int i = threadIdx.x; i < padded * N; i += THREADS) {
			bs[i] = i < count * N ? ld(g.b + at0 * N + i) : 0.0f, cs[i] = i < count * N ? ld(g.c + at0 * N + i) : 0.0f;
		}
		for (int i = threadIdx.x; i < padded; i += THREADS)
			open[i] = i < count && base + i > 0 && g.docs[at0 + i] != g.docs[at0 + i - 1] ? NEVER : 0.0f;
		__syncthreads();
		const float *lane_bs = bs + lane.sub * NP, *lane_cs = cs + lane.sub * NP;
		float s[NP];
#pragma unroll
		for (int n = 0; n < NP; n++) s[n] = starts[lane.of(row * chunks + k, g.dim) + n];
#pragma unroll 1
		for (int j = 0; j * SUB < count; j++) {
			TX xs[SUB];
			TDT ts[SUB];
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				index_t at = origin + (index_t)min(j * SUB + q, count - 1) * stride;
				xs[q] = g.x[at], ts[q] = g.dt[at];
			}
#pragma unroll
			for (int n = 0; n < NP; n++) noted[(j * NP + n) * THREADS + threadIdx.x] = s[n];
			if ((j + 1) * SUB >= count) break;
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				int t = j * SUB + q;
				float slope, delta = step(ld(&ts[q]) + lane.bias, slope), u = delta * ld(&xs[q]), over = open[t], bn[NP];
				states_of(bn, lane_bs + t * N);
#pragma unroll
				for (int n = 0; n < NP; n++) s[n] = exp2_fast(lane.a[n] * delta + over) * s[n] + u * bn[n];
			}
		}
		TX xr[SUB];
		TDT tr[SUB];
		TZ zr[SUB];
		TDY gr[SUB];
		auto load = [&](int j) {
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				index_t at = origin + (index_t)min(max(j, 0) * SUB + q, count - 1) * stride;
				xr[q] = g.x[at], tr[q] = g.dt[at], zr[q] = g.z[at], gr[q] = dy[at];
			}
		};
		load((count - 1) / SUB);
#pragma unroll 1
		for (int j = (count - 1) / SUB; j >= 0; j--) {
			float before[SUB][NP], xs[SUB], deltas[SUB], slopes[SUB], zs[SUB], gs[SUB];
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				bool there = j * SUB + q < count;
				float slope, delta = step(ld(&tr[q]) + lane.bias, slope);
				deltas[q] = there ? delta : 0.0f, slopes[q] = there ? slope : 0.0f;
				xs[q] = ld(&xr[q]), zs[q] = ld(&zr[q]), gs[q] = there ? ld(&gr[q]) : 0.0f;
			}
			load(j - 1);
#pragma unroll
			for (int n = 0; n < NP; n++) s[n] = noted[(j * NP + n) * THREADS + threadIdx.x];
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				int t = j * SUB + q;
				float u = deltas[q] * xs[q], over = open[t], bn[NP];
				states_of(bn, lane_bs + t * N);
#pragma unroll
				for (int n = 0; n < NP; n++) {
					before[q][n] = s[n];
					if (q + 1 < SUB) s[n] = exp2_fast(lane.a[n] * deltas[q] + over) * s[n] + u * bn[n];
				}
			}
			__syncthreads(); // sums has been read
#pragma unroll
			for (int q = SUB - 1; q >= 0; q--) {
				int t = j * SUB + q;
				float v[VALUES], bn[NP], cn[NP]; // v: for B, then for C
				float slope, opened = gate(zs[q], slope), delta = deltas[q], u = delta * xs[q], over = open[t], gradient = gs[q] * opened;
				float raw = 0, hb = 0, ha = 0;
				states_of(bn, lane_bs + t * N), states_of(cn, lane_cs + t * N);
#pragma unroll
				for (int n = 0; n < NP; n++) {
					float decay = exp2_fast(lane.a[n] * delta + over), was = decay * before[q][n];
					float state = was + u * bn[n], h = ds[n] + gradient * cn[n], into = h * was;
					raw += state * cn[n];
					hb += h * bn[n];
					ha += into * lane.a[n];
					dalog[n] += into * delta;
					v[n] = lane.there ? h * u : 0.0f, v[NP + n] = lane.there ? gradient * state : 0.0f;
					ds[n] = h * decay;
				}
				raw = over_lanes(raw) + lane.skip * xs[q], hb = over_lanes(hb), ha = over_lanes(ha);
				float dpre = (xs[q] * hb + ha * (1.0f / LOG2E)) * slopes[q];
				dbias += dpre;
				dskip += gradient * xs[q];
				if (writes && t < count) {
					index_t at = origin + (index_t)t * stride;
					if (out.dx) st(out.dx + at, gradient * lane.skip + delta * hb);
					if (out.ddt) st(out.ddt + at, dpre);
					if (out.dz) st(out.dz + at, gs[q] * raw * slope);
				}
				over_channels<VALUES, 16>(v, 0, sums + ((threadIdx.x >> 5) * SUB + q) * P * VALUES);
			}
			__syncthreads();
			for (int i = threadIdx.x; i < SUB * P * VALUES; i += THREADS) {
				int t = j * SUB + i / (P * VALUES), sub = i / VALUES % P, value = i % VALUES;
				if (t >= count) continue;
				float sum = 0;
#pragma unroll
				for (int w = 0; w < WARPS; w++) sum += sums[w * SUB * P * VALUES + i];
				float *to = value < NP ? out.db : out.dc;
				to[((index_t)blockIdx.x * tokens + at0 + t) * N + sub * NP + value % NP] = sum;
			}
		}
	}
	if (!lane.there) return;
	if (lane.sub == 0) out.dbias[part * g.dim + lane.d] = dbias, out.dskip[part * g.dim + lane.d] = dskip;
#pragma unroll
	for (int n = 0; n < NP; n++) {
		out.dalog[lane.of(part, g.dim) + n] = dalog[n] * lane.a[n] * (1.0f / LOG2E);
		if (out.dh0 && first == 0) out.dh0[lane.of(row, g.dim) + n] = ds[n];
	}
}
