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
	__shared__ __align__(16) float bs[TILE][N], cs[TILE][N];
	__shared__ bool reset[TILE];
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, first = blockIdx.y * segment, last = min(first + segment, length);
	index_t chunks = (length + chunk - 1) / chunk;
	Lane lane(bias, alog, skip, dim);
	docs += row * length;
	float s[NP], through = 0;
	const float *from = carry ? carry + lane.of(part, dim) : h0 && !ends ? h0 + lane.of(row, dim) : nullptr;
#pragma unroll
	for (int i = 0; i < NP; i++) s[i] = from ? from[i] : 0.0f;

	float xs[AHEAD], ts[AHEAD], zs[AHEAD];
	auto load = [&](index_t t) {
#pragma unroll
		for (int q = 0; q < AHEAD; q++) {
			index_t at = (row * length + min(t + q, last - 1)) * dim + lane.d;
			xs[q] = ld(x + at), ts[q] = ld(dt + at);
			if (!ends) zs[q] = ld(z + at);
		}
	};
	load(first);
	for (index_t tile = first; tile < last; tile += TILE) {
		__syncthreads();
		int count = (int)min((index_t)TILE, last - tile);
		for (int i = threadIdx.x; i < count * N; i += THREADS) {
			bs[i / N][i % N] = ld(b + (row * length + tile) * N + i);
			cs[i / N][i % N] = ld(c + (row * length + tile) * N + i);
		}
		for (int i = threadIdx.x; i < count; i += THREADS) reset[i] = starts_at(docs, tile + i);
		__syncthreads();
		for (int i = 0; i < count; i += AHEAD) {
			float xn[AHEAD], tn[AHEAD], zn[AHEAD];
#pragma unroll
			for (int q = 0; q < AHEAD; q++) xn[q] = xs[q], tn[q] = ts[q], zn[q] = zs[q];
			load(min(tile + i + AHEAD, last - 1));
#pragma unroll
			for (int q = 0; q < AHEAD; q++) {
				if (i + q >= count) break;
				index_t t = tile + i + q;
				if (starts && t % chunk == 0 && lane.there) {
					float *to = starts + lane.of(row * chunks + t / chunk, dim);
#pragma unroll
					for (int n = 0; n < NP; n++) to[n] = s[n];
				}
				float delta = softplus(tn[q] + lane.bias), u = delta * xn[q], sum = 0;
				through = reset[i + q] ? BLOCKED : through + delta;
				if (reset[i + q])
#pragma unroll
					for (int n = 0; n < NP; n++) s[n] = 0;
#pragma unroll
				for (int n = 0; n < NP; n++) {
					s[n] = exp2_fast(lane.a[n] * delta) * s[n] + u * bs[i + q][lane.sub * NP + n];
					sum += s[n] * cs[i + q][lane.sub * NP + n];
				}
				if (!y) continue;
				sum = over_lanes(sum) + lane.skip * xn[q];
				if (lane.sub == 0 && lane.there) st(y + (row * length + t) * dim + lane.d, sum * silu(zn[q]));
			}
		}
	}
	if (!lane.there) return;
	if (ends) {
		if (lane.sub == 0) deltas[part * dim + lane.d] = through;
#pragma unroll
		for (int n = 0; n < NP; n++) ends[lane.of(part, dim) + n] = s[n];
	} else if (h1 && last == length) {
#pragma unroll
		for (int n = 0; n < NP; n++) h1[lane.of(row, dim) + n] = s[n];
	}
}

// The first pass of the gradient: ends[row, segment, D, N] = what a segment makes
// of a zero gradient of the state after it.
extern "C" __global__ void __launch_bounds__(THREADS) scan_backward_ends(float *ends, float *deltas, const TDT *dt, const TBIAS *bias,
	const TALOG *alog, const TC *c, const TZ *z, const int *docs, const TDY *dy, index_t length, index_t dim, index_t segment) {
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, first = blockIdx.y * segment, last = min(first + segment, length);
	Lane lane(bias, alog, (const TSKIP *)nullptr, dim);
	docs += row * length;
	float ds[NP] = {}, through = 0;
#pragma unroll 4
	for (index_t t = last - 1; t >= first; t--) {
		index_t at = (row * length + t) * dim + lane.d;
		float delta = softplus(ld(dt + at) + lane.bias), g = ld(dy + at) * silu(ld(z + at));
		bool reset = starts_at(docs, t);
		through = reset ? BLOCKED : through + delta;
#pragma unroll
		for (int n = 0; n < NP; n++) {
			float h = ds[n] + g * ld(c + (row * length + t) * N + lane.sub * NP + n);
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
	Lane lane(bias, alog, skip, dim);
	docs += row * length;
	float ds[NP], dalog[NP] = {}, dbias = 0, dskip = 0;
	const float *from = dcarry ? dcarry + lane.of(part, dim) : dh1 ? dh1 + lane.of(row, dim) : nullptr;
#pragma unroll
	for (int n = 0; n < NP; n++) ds[n] = from ? from[n] : 0.0f;

	for (index_t k = (last - 1) / chunk; k * chunk >= first; k--) {
		index_t base = k * chunk, at0 = row * length + base;
		int count = (int)min(chunk, last - base);
		__syncthreads();
		for (int i = threadIdx.x; i < count * N; i += THREADS) bs[i] = ld(b + at0 * N + i), cs[i] = ld(c + at0 * N + i);
		for (int i = threadIdx.x; i < count; i += THREADS) reset[i] = starts_at(docs, base + i);
		__syncthreads();
		float s[NP];
#pragma unroll
		for (int n = 0; n < NP; n++) s[n] = starts[lane.of(row * chunks + k, dim) + n];
		for (int j = 0; j * SUB < count; j++) {
#pragma unroll
			for (int n = 0; n < NP; n++) noted[(j * NP + n) * THREADS + threadIdx.x] = s[n];
			if ((j + 1) * SUB >= count) break;
			float xs[SUB], deltas[SUB];
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				index_t at = (at0 + j * SUB + q) * dim + lane.d;
				xs[q] = ld(x + at), deltas[q] = ld(dt + at);
			}
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				int t = j * SUB + q;
				float delta = softplus(deltas[q] + lane.bias), u = delta * xs[q];
#pragma unroll
				for (int n = 0; n < NP; n++)
					s[n] = (reset[t] ? 0.0f : exp2_fast(lane.a[n] * delta) * s[n]) + u * bs[t * N + lane.sub * NP + n];
			}
		}
		for (int j = (count - 1) / SUB; j >= 0; j--) {
			float before[SUB][NP], xs[SUB], pre[SUB], zs[SUB], gs[SUB];
#pragma unroll
			for (int n = 0; n < NP; n++) s[n] = noted[(j * NP + n) * THREADS + threadIdx.x];
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				index_t at = (at0 + min(j * SUB + q, count - 1)) * dim + lane.d;
				xs[q] = ld(x + at), pre[q] = ld(dt + at) + lane.bias, zs[q] = ld(z + at), gs[q] = ld(dy + at);
			}
#pragma unroll
			for (int q = 0; q < SUB; q++) {
				int t = min(j * SUB + q, count - 1);
				float delta = softplus(pre[q]), u = delta * xs[q];
#pragma unroll
				for (int n = 0; n < NP; n++) {
					before[q][n] = s[n];
					if (q + 1 < SUB) s[n] = (reset[t] ? 0.0f : exp2_fast(lane.a[n] * delta) * s[n]) + u * bs[t * N + lane.sub * NP + n];
				}
			}
			__syncthreads(); // sums has been read
#pragma unroll
			for (int q = SUB - 1; q >= 0; q--) {
				int t = j * SUB + q;
				float v[VALUES] = {}; // for B, then for C
				if (t < count) {
					float delta = softplus(pre[q]), u = delta * xs[q], raw = 0, hb = 0, ha = 0, g = gs[q] * silu(zs[q]);
#pragma unroll
					for (int n = 0; n < NP; n++) {
						float bn = bs[t * N + lane.sub * NP + n], cn = cs[t * N + lane.sub * NP + n];
						float decay = reset[t] ? 0.0f : exp2_fast(lane.a[n] * delta), was = decay * before[q][n];
						float state = was + u * bn, h = ds[n] + g * cn, into = h * was;
						raw += state * cn;
						hb += h * bn;
						ha += into * lane.a[n];
						dalog[n] += into * delta;
						v[n] = h * u, v[NP + n] = g * state;
						ds[n] = h * decay;
					}
					raw = over_lanes(raw) + lane.skip * xs[q], hb = over_lanes(hb), ha = over_lanes(ha);
					float dpre = (xs[q] * hb + ha * (1.0f / LOG2E)) * sigmoid(pre[q]);
					dbias += dpre;
					dskip += g * xs[q];
					if (lane.sub == 0 && lane.there) {
						index_t at = (at0 + t) * dim + lane.d;
						if (out.dx) st(out.dx + at, g * lane.skip + delta * hb);
						if (out.ddt) st(out.ddt + at, dpre);
						if (out.dz) st(out.dz + at, gs[q] * raw * silu_grad(zs[q]));
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
