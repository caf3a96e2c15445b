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

inline bool starts_at(const int *docs, index_t t) { return t > 0 && docs[t] != docs[t - 1]; }

#define AHEAD 4 // positions whose inputs are loaded before they are needed
#define TILE 32 // positions whose B and C are in shared memory

// y, the final state h1, and starts: the states before each chunk. With ends, it
// is the first pass: nothing but ends[row, segment, D, N] and the sum of delta in
// deltas[row, segment, D]. carry[row, segment, D, N] are the states to start from;
// without it h0, or zero. y, h1, starts may be null; h1 may be h0.
extern "C" __global__ void __launch_bounds__(THREADS) scan_forward(TY *y, float *h1, float *starts, float *ends, float *deltas, const float *carry,
	const TX *x, const TDT *dt, const TBIAS *bias, const TALOG *alog, const TB *b, const TC *c, const TSKIP *skip, const TZ *z,
	const int *docs, const float *h0, index_t length, index_t dim, index_t chunk, index_t segment) {
	__shared__ __align__(16) float bs[TILE * N], cs[TILE * N];
	__shared__ bool reset[TILE];
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, begin = blockIdx.y * segment;
	int count = (int)min(segment, length - begin), chunks = (int)((length + chunk - 1) / chunk), every = (int)chunk, stride = (int)dim;
	Lane lane(bias, alog, skip, dim);
	docs += row * length + begin, b += (row * length + begin) * N, c += (row * length + begin) * N;
	index_t at = (row * length + begin) * dim + lane.d;
	x += at, dt += at, z += at;
	if (y) y += at;
	if (starts) starts += lane.of(row * chunks + begin / chunk, dim);
	float s[NP], through = 0;
	const float *from = carry ? carry + lane.of(part, dim) : h0 && !ends ? h0 + lane.of(row, dim) : nullptr;
#pragma unroll
	for (int i = 0; i < NP; i++) s[i] = from ? from[i] : 0.0f;

	float xs[AHEAD], ts[AHEAD], zs[AHEAD];
	auto load = [&](int t) {
#pragma unroll
		for (int q = 0; q < AHEAD; q++) {
			index_t at = (index_t)min(t + q, count - 1) * stride;
			xs[q] = ld(x + at), ts[q] = ld(dt + at), zs[q] = ends ? 0.0f : ld(z + at);
		}
	};
	load(0);
	int until = 0; // the next chunk starts
	for (int tile = 0; tile < count; tile += TILE) {
		__syncthreads();
		int here = min(TILE, count - tile);
		for (int i = threadIdx.x; i < here * N; i += THREADS) bs[i] = ld(b + (index_t)tile * N + i), cs[i] = ld(c + (index_t)tile * N + i);
		for (int i = threadIdx.x; i < here; i += THREADS) reset[i] = begin + tile + i > 0 && docs[tile + i] != docs[tile + i - 1];
		__syncthreads();
		for (int i = 0; i < here; i += AHEAD) {
			float xn[AHEAD], tn[AHEAD], zn[AHEAD];
#pragma unroll
			for (int q = 0; q < AHEAD; q++) xn[q] = xs[q], tn[q] = ts[q], zn[q] = zs[q];
			load(tile + i + AHEAD);
#pragma unroll
			for (int q = 0; q < AHEAD; q++) {
				if (i + q >= here) break;
				if (starts && until == 0) {
					until = every;
					if (lane.there) {
#pragma unroll
						for (int n = 0; n < NP; n++) starts[n] = s[n];
					}
					starts += (index_t)stride * N;
				}
				until--;
				float slope, delta = step(tn[q] + lane.bias, slope), u = delta * xn[q], sum = 0, bn[NP], cn[NP];
				states_of(bn, bs + (i + q) * N + lane.sub * NP), states_of(cn, cs + (i + q) * N + lane.sub * NP);
				if (reset[i + q]) {
					through = BLOCKED;
#pragma unroll
					for (int n = 0; n < NP; n++) s[n] = 0;
				} else {
					through += delta;
				}
#pragma unroll
				for (int n = 0; n < NP; n++) {
					s[n] = exp2_fast(lane.a[n] * delta) * s[n] + u * bn[n];
					sum += s[n] * cn[n];
				}
				if (!y) continue;
				sum = over_lanes(sum) + lane.skip * xn[q];
				if (lane.sub == 0 && lane.there) st(y + (index_t)(tile + i + q) * stride, sum * gate(zn[q], slope));
			}
		}
	}
	if (!lane.there) return;
	if (ends) {
		if (lane.sub == 0) deltas[part * dim + lane.d] = through;
#pragma unroll
		for (int n = 0; n < NP; n++) ends[lane.of(part, dim) + n] = s[n];
	} else if (h1 && begin + count == length) {
#pragma unroll
		for (int n = 0; n < NP; n++) h1[lane.of(row, dim) + n] = s[n];
	}
}

// The first pass of the gradient: ends[row, segment, D, N] = what a segment makes
// of a zero gradient of the state after it.
extern "C" __global__ void __launch_bounds__(THREADS) scan_backward_ends(float *ends, float *deltas, const TDT *dt, const TBIAS *bias,
	const TALOG *alog, const TC *c, const TZ *z, const int *docs, const TDY *dy, index_t length, index_t dim, index_t segment) {
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, begin = blockIdx.y * segment;
	int count = (int)min(segment, length - begin), stride = (int)dim;
	Lane lane(bias, alog, (const TSKIP *)nullptr, dim);
	docs += row * length + begin, c += (row * length + begin) * N + lane.sub * NP;
	index_t at = (row * length + begin) * dim + lane.d;
	dt += at, dy += at, z += at;
	float ds[NP] = {}, through = 0;
#pragma unroll 4
	for (int t = count - 1; t >= 0; t--) {
		float slope, delta = step(ld(dt + (index_t)t * stride) + lane.bias, slope);
		float g = ld(dy + (index_t)t * stride) * gate(ld(z + (index_t)t * stride), slope);
		bool reset = begin + t > 0 && docs[t] != docs[t - 1];
		through = reset ? BLOCKED : through + delta;
#pragma unroll
		for (int n = 0; n < NP; n++) {
			float h = ds[n] + g * ld(c + (index_t)t * N + n);
			ds[n] = reset ? 0.0f : h * exp2_fast(lane.a[n] * delta);
		}
	}
	if (!lane.there) return;
	if (lane.sub == 0) deltas[part * dim + lane.d] = through;
#pragma unroll
	for (int n = 0; n < NP; n++) ends[lane.of(part, dim) + n] = ds[n];
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
// stores the sums: instead of summing each value in every lane, lanes exchange
// halves of what they hold.
inline void over_channels(float (&v)[VALUES], float *to) {
	int lane = threadIdx.x & 31, count = VALUES, base = 0;
#pragma unroll
	for (int o = 16; o >= P; o >>= 1) {
		if (count % 2 == 0) {
			count /= 2;
			bool upper = lane & o;
#pragma unroll
			for (int j = 0; j < count; j++) {
				float send = upper ? v[j] : v[j + count], keep = upper ? v[j + count] : v[j];
				v[j] = keep + __shfl_xor_sync(ALL_LANES, send, o);
			}
			base += upper ? count : 0;
		} else {
#pragma unroll
			for (int j = 0; j < count; j++) v[j] += __shfl_xor_sync(ALL_LANES, v[j], o);
		}
	}
#pragma unroll
	for (int j = 0; j < count; j++) to[(lane % P) * VALUES + base + j] = v[j];
}

// The gradient walks a segment from its end, chunk by chunk. In a chunk it first
// goes forward from the saved state and notes the state every SUB positions, in
// shared memory; then for each SUB positions from the last it computes the states
// again, in registers, and goes back over them.
//
// dcarry[row, segment, D, N] is the gradient of the state after each segment;
// without it dh1, or zero.
extern "C" __global__ void __launch_bounds__(THREADS, 2) scan_backward(StructGrads out, const float *dcarry, const float *dh1, const float *starts,
	const TDY *dy, const TX *x, const TDT *dt, const TBIAS *bias, const TALOG *alog, const TB *b, const TC *c, const TSKIP *skip, const TZ *z,
	const int *docs, index_t length, index_t dim, index_t chunk, index_t segment) {
	extern __shared__ float shared[];
	int notes = (int)((chunk + SUB - 1) / SUB);
	float *noted = shared;								// [notes, NP, THREADS]
	float *bs = noted + notes * NP * THREADS;			// [chunk, N]
	float *cs = bs + chunk * N;							// [chunk, N]
	float *sums = cs + chunk * N;						// [WARPS, SUB, P, VALUES]
	int *reset = (int *)(sums + WARPS * SUB * P * VALUES); // [chunk]
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, first = blockIdx.y * segment, last = min(first + segment, length);
	index_t chunks = (length + chunk - 1) / chunk, tokens = gridDim.z * length;
	int stride = (int)dim;
	Lane lane(bias, alog, skip, dim);
	docs += row * length;
	bool writes = lane.sub == 0 && lane.there;
	float ds[NP], dalog[NP] = {}, dbias = 0, dskip = 0;
	const float *from = dcarry ? dcarry + lane.of(part, dim) : dh1 ? dh1 + lane.of(row, dim) : nullptr;
#pragma unroll
	for (int n = 0; n < NP; n++) ds[n] = from ? from[n] : 0.0f;

	for (index_t k = (last - 1) / chunk; k * chunk >= first; k--) {
		index_t base = k * chunk, at0 = row * length + base, origin = at0 * dim + lane.d; // of the chunk
		int count = (int)min(chunk, last - base);
		__syncthreads();
		for (int i = threadIdx.x; i < count * N; i += THREADS) bs[i] = ld(b + at0 * N + i), cs[i] = ld(c + at0 * N + i);
		for (int i = threadIdx.x; i < count; i += THREADS) reset[i] = starts_at(docs, base + i);
		__syncthreads();
		const float *lane_bs = bs + lane.sub * NP, *lane_cs = cs + lane.sub * NP;
		float s[NP];
#pragma unroll
		for (int n = 0; n < NP; n++) s[n] = starts[lane.of(row * chunks + k, dim) + n];
		for (int j = 0; j * SUB < count; j++) {
#pragma unroll
			for (int n = 0; n < NP; n++) noted[(j * NP + n) * THREADS + threadIdx.x] = s[n];
			if ((j + 1) * SUB >= count) break;
			float xs[SUB], pre[SUB];
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				index_t at = origin + (index_t)(j * SUB + q) * stride;
				xs[q] = ld(x + at), pre[q] = ld(dt + at) + lane.bias;
			}
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				int t = j * SUB + q;
				float slope, delta = step(pre[q], slope), u = delta * xs[q], keep = reset[t] ? 0.0f : 1.0f, bn[NP];
				states_of(bn, lane_bs + t * N);
#pragma unroll
				for (int n = 0; n < NP; n++) s[n] = exp2_fast(lane.a[n] * delta) * (keep * s[n]) + u * bn[n];
			}
		}
		for (int j = (count - 1) / SUB; j >= 0; j--) {
			float before[SUB][NP], xs[SUB], deltas[SUB], slopes[SUB], zs[SUB], gs[SUB];
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				index_t at = origin + (index_t)min(j * SUB + q, count - 1) * stride;
				xs[q] = ld(x + at), deltas[q] = ld(dt + at), zs[q] = ld(z + at), gs[q] = ld(dy + at);
			}
#pragma unroll
			for (int n = 0; n < NP; n++) s[n] = noted[(j * NP + n) * THREADS + threadIdx.x];
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				int t = min(j * SUB + q, count - 1);
				deltas[q] = step(deltas[q] + lane.bias, slopes[q]);
				float u = deltas[q] * xs[q], keep = reset[t] ? 0.0f : 1.0f, bn[NP];
				states_of(bn, lane_bs + t * N);
#pragma unroll
				for (int n = 0; n < NP; n++) {
					before[q][n] = keep * s[n];
					if (q + 1 < SUB) s[n] = exp2_fast(lane.a[n] * deltas[q]) * before[q][n] + u * bn[n];
				}
			}
			__syncthreads(); // sums has been read
#pragma unroll
			for (int q = SUB - 1; q >= 0; q--) {
				int t = j * SUB + q;
				float v[VALUES] = {}; // for B, then for C
				if (t < count) {
					float slope, opened = gate(zs[q], slope), delta = deltas[q], u = delta * xs[q], g = gs[q] * opened;
					float keep = reset[t] ? 0.0f : 1.0f, raw = 0, hb = 0, ha = 0, bn[NP], cn[NP];
					states_of(bn, lane_bs + t * N), states_of(cn, lane_cs + t * N);
#pragma unroll
					for (int n = 0; n < NP; n++) {
						float decay = exp2_fast(lane.a[n] * delta), was = decay * before[q][n];
						float state = was + u * bn[n], h = ds[n] + g * cn[n], into = h * was;
						raw += state * cn[n];
						hb += h * bn[n];
						ha += into * lane.a[n];
						dalog[n] += into * delta;
						v[n] = h * u, v[NP + n] = g * state;
						ds[n] = h * decay * keep;
					}
					raw = over_lanes(raw) + lane.skip * xs[q], hb = over_lanes(hb), ha = over_lanes(ha);
					float dpre = (xs[q] * hb + ha * (1.0f / LOG2E)) * slopes[q];
					dbias += dpre;
					dskip += g * xs[q];
					if (writes) {
						index_t at = origin + (index_t)t * stride;
						if (out.dx) st(out.dx + at, g * lane.skip + delta * hb);
						if (out.ddt) st(out.ddt + at, dpre);
						if (out.dz) st(out.dz + at, gs[q] * raw * slope);
					}
				}
				if (!lane.there)
#pragma unroll
					for (int i = 0; i < VALUES; i++) v[i] = 0;
				over_channels(v, sums + ((threadIdx.x >> 5) * SUB + q) * P * VALUES);
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
	if (lane.sub == 0) out.dbias[part * dim + lane.d] = dbias, out.dskip[part * dim + lane.d] = dskip;
#pragma unroll
	for (int n = 0; n < NP; n++) {
		out.dalog[lane.of(part, dim) + n] = dalog[n] * lane.a[n] * (1.0f / LOG2E);
		if (out.dh0 && first == 0) out.dh0[lane.of(row, dim) + n] = ds[n];
	}
}
