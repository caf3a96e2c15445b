// The gradient of the selective scan: see scan.cuh.

// Grads are the outputs of the gradient. dh0 may be null. The sums over rows and
// segments come in parts: dbias, dskip [part, D] and dalog [part, D, N]; those over
// channels in parts of CHANNELS: db, dc [part, T, N].
struct StructGrads {
	TDX *dx;
	TDDT *ddt;
	TDZ *dz;
	float *dh0, *dbias, *dskip, *dalog, *db, *dc;
};

#define WARPS (THREADS / 32)
#define VALUES (2 * NP)			 // of a lane and position: NP for B, then NP for C
#define WIDTH (P * VALUES + 8)	 // of a position's sums in shared memory
#define GROUPS (CHUNK / GROUP)

// over_channels sums v over the channels of a warp, for each of the P lanes, and
// stores the sums. As in to_owners lanes exchange halves of the `count` values that
// they hold; what a lane holds starts at base.
template <int count, int offset> inline void over_channels(float (&v)[VALUES], int base, float *to) {
	if constexpr (offset == 0) {
#pragma unroll
		for (int j = 0; j < count; j++) to[(threadIdx.x & 31) / SPAN * VALUES + base + j] = v[j];
	} else if constexpr (count % 2 == 0) {
		bool upper = threadIdx.x & offset;
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

// Chunk is what a block knows of a chunk, in shared memory.
struct Chunk {
	float noted[GROUPS][THREADS][NP];	 // states before each group
	float4 owned[GROUPS][THREADS];		 // of each position, by its owner: x, delta, its slope, decay
	float sums[WARPS][CHUNK][WIDTH];
	float b[CHUNK * N], c[CHUNK * N];
	bool open[CHUNK];

	// fetch takes what all channels share of `count` positions, from position t of a row on.
	inline void fetch(const StructScan &g, index_t row, index_t t, int count) {
		index_t token = row * g.length + t;
		__syncthreads();
#pragma unroll
		for (int q = 0; q < (CHUNK * N + THREADS - 1) / THREADS; q++) {
			int i = threadIdx.x + q * THREADS;
			if (CHUNK * N % THREADS != 0 && i >= CHUNK * N) break;
			b[i] = i < count * N ? ld(g.b + token * N + i) : 0.0f, c[i] = i < count * N ? ld(g.c + token * N + i) : 0.0f;
		}
#pragma unroll 1
		for (int i = threadIdx.x; i < count; i += THREADS) open[i] = opens(g, row, t + i);
		__syncthreads();
	}

	// sum adds up what the warps have.
	inline void sum(const StructGrads &out, int count, index_t token, index_t tokens) const {
		constexpr int V = NP % 4 == 0 ? 4 : NP % 2 == 0 ? 2 : 1;
#pragma unroll 1
		for (int i = threadIdx.x * V; i < count * P * VALUES; i += THREADS * V) {
			int t = i / (P * VALUES), sub = i / VALUES % P, value = i % VALUES;
			float sum[V] = {};
#pragma unroll
			for (int w = 0; w < WARPS; w++)
#pragma unroll
				for (int j = 0; j < V; j++) sum[j] += sums[w][t][i % (P * VALUES) + j];
			float *to = (value < NP ? out.db : out.dc) + ((index_t)blockIdx.x * tokens + token + t) * N + sub * NP + value % NP;
#pragma unroll
			for (int j = 0; j < V; j++) to[j] = sum[j];
		}
	}
};

// Hint asks, chunk by chunk, for the lines that come next: a thread for those of a tensor
// in a row, if there are as many.
struct Hint {
	const char *at;
	index_t step;

	Hint(const StructScan &g, const TDY *dys, index_t token) {
		int t = threadIdx.x % 64;
		index_t first = (token + t) * g.dim + min((index_t)blockIdx.x * CHANNELS, g.dim - 1);
		at = nullptr, step = CHUNK * g.dim;
		if (t >= CHUNK || threadIdx.x >= 256) return;
		switch (threadIdx.x / 64) {
		case 0: at = (const char *)(g.x + first), step *= sizeof(TX); break;
		case 1: at = (const char *)(g.dt + first), step *= sizeof(TDT); break;
		case 2: at = (const char *)(g.z + first), step *= sizeof(TZ); break;
		default: at = (const char *)(dys + first), step *= sizeof(TDY);
		}
	}
	inline void next() {
		at -= step;
		if (at) asm volatile("prefetch.global.L2 [%0];" ::"l"(at));
	}
};

// forward goes over a chunk from the saved states and notes the states before each
// group and what owners know.
inline void forward(Chunk &k, const Lane &lane, const StructScan &g, index_t start, int count, const float *starts) {
	float s[NP];
	states_at(s, starts);
	Position at;
	at.load(g, start + (index_t)min(lane.own, count - 1) * g.dim);
#pragma unroll 1
	for (int j = 0; j * GROUP < count; j++) {
		int t = j * GROUP + lane.own;
		float delta[C], decay[C], u[C], slope[C];
		at.steps(lane, t < count && lane.there, k.open[t], delta, decay, u, slope);
		keep_states(k.noted[j][threadIdx.x], s);
		k.owned[j][threadIdx.x] = make_float4(at.x[0], delta[0], slope[0], decay[0]);
		at.load(g, start + (index_t)min(t + GROUP, count - 1) * g.dim);
#pragma unroll
		for (int q = 0; q < GROUP; q++) {
			float bn[NP], dq = from_owner(decay[0], q), uq = from_owner(u[0], q);
			states_at(bn, k.b + (j * GROUP + q) * N + lane.sub * NP);
#pragma unroll
			for (int n = 0; n < NP; n++) s[n] = exp2_fast(lane.a[0][n] * dq) * s[n] + uq * bn[n];
		}
	}
}

// Walk is what a thread gathers as it goes back along a segment.
struct Walk {
	float ds[NP] = {}, dalog[NP] = {}, dbias = 0, dskip = 0;
};

// backward goes back over a chunk, group by group: it computes the states again, in
// registers, and then their gradients.
inline void backward(Walk &w, Chunk &k, const Lane &lane, const StructScan &g, index_t start, int count, const StructGrads &out, const TDY *dys) {
	Pack<TZ> z;
	Pack<TDY> dy;
	auto load = [&](int t) {
		index_t from = start + (index_t)min(max(t, 0), count - 1) * g.dim;
		z = pack_at(g.z + from), dy = pack_at(dys + from);
	};
	int last = (count - 1) / GROUP;
	load(last * GROUP + lane.own);
#pragma unroll 1
	for (int j = last; j >= 0; j--) {
		int t = j * GROUP + lane.own;
		bool there = t < count && lane.there;
		float4 own = k.owned[j][threadIdx.x];
		float x = own.x, delta = own.y, slope = own.z, u = delta * x;
		float opening, opened = gate(z[0], opening), gy = there ? dy[0] : 0.0f, gradient = gy * opened;
		load(t - GROUP);
		float before[NP], state[GROUP][NP], kept[GROUP][NP], dq[GROUP], uq[GROUP];
		states_at(before, k.noted[j][threadIdx.x]);
#pragma unroll
		for (int q = 0; q < GROUP; q++) {
			float bn[NP];
			states_at(bn, k.b + (j * GROUP + q) * N + lane.sub * NP);
			dq[q] = from_owner(own.w, q), uq[q] = from_owner(u, q);
#pragma unroll
			for (int n = 0; n < NP; n++) {
				kept[q][n] = exp2_fast(lane.a[0][n] * dq[q]);
				state[q][n] = kept[q][n] * (q > 0 ? state[max(q - 1, 0)][n] : before[n]) + uq[q] * bn[n];
			}
		}
		float totals[GROUP * 3]; // of each position: C . state, B . h and A . (h decay state)
#pragma unroll
		for (int q = GROUP - 1; q >= 0; q--) {
			float v[VALUES], bn[NP], cn[NP], gq = from_owner(gradient, q), raw = 0, hb = 0, ha = 0;
			states_at(bn, k.b + (j * GROUP + q) * N + lane.sub * NP), states_at(cn, k.c + (j * GROUP + q) * N + lane.sub * NP);
#pragma unroll
			for (int n = 0; n < NP; n++) {
				float h = w.ds[n] + gq * cn[n];
				w.ds[n] = h * kept[q][n];
				float into = w.ds[n] * (q > 0 ? state[max(q - 1, 0)][n] : before[n]);
				raw += state[q][n] * cn[n];
				hb += h * bn[n];
				ha += into * lane.a[0][n];
				w.dalog[n] += into * dq[q];
				v[n] = h * uq[q], v[NP + n] = gq * state[q][n];
			}
			totals[q * 3] = raw, totals[q * 3 + 1] = hb, totals[q * 3 + 2] = ha;
			over_channels<VALUES, SPAN / 2>(v, 0, k.sums[threadIdx.x / 32][j * GROUP + q]);
		}
		to_owners<GROUP * 3, 16>(totals);
		float raw = totals[0] + lane.skip[0] * x, hb = totals[1], ha = totals[2];
		float ddt = (x * hb + ha * (1.0f / LOG2E)) * slope;
		if (!there || !lane.writes) continue;
		w.dbias += ddt, w.dskip += gradient * x;
		index_t to = start + (index_t)t * g.dim;
		st(out.dx + to, gradient * lane.skip[0] + delta * hb);
		st(out.ddt + to, ddt);
		st(out.dz + to, gy * raw * opening);
	}
}

// The gradient walks a segment from its end, chunk by chunk, over each forward and back.
//
// dcarry[row, segment, D, N] is the gradient of the state after each segment;
// without it dh1, or zero.
extern "C" __global__ void __launch_bounds__(THREADS, 512 / THREADS) scan_backward(StructGrads out, const float *dcarry, const float *dh1,
	const float *starts, const TDY *dys, StructScan g) {
	extern __shared__ __align__(16) unsigned char memory[];
	Chunk &k = *(Chunk *)memory;
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, first = blockIdx.y * g.segment, last = min(first + g.segment, g.length);
	index_t chunks = (g.length + CHUNK - 1) / CHUNK, i = (last - 1) / CHUNK;
	Lane lane(g.bias, g.alog, g.skip, g.dim);
	Hint hint(g, dys, row * g.length + i * CHUNK);
	Walk w;
	if (dcarry) states_at(w.ds, dcarry + lane.of(part, g.dim, 0));
	else if (dh1) states_at(w.ds, dh1 + lane.of(row, g.dim, 0));

	for (; i * CHUNK >= first; i--) {
		int count = (int)min((index_t)CHUNK, last - i * CHUNK);
		index_t token = row * g.length + i * CHUNK, start = token * g.dim + lane.d;
		const float *from = starts + lane.of(row * chunks + i, g.dim, 0);
		k.fetch(g, row, i * CHUNK, count);
		if (i * CHUNK > first) {
			hint.next();
			asm volatile("prefetch.global.L2 [%0];" ::"l"(from - g.dim * N));
		}
		forward(k, lane, g, start, count, from);
		backward(w, k, lane, g, start, count, out, dys);
		__syncthreads();
		k.sum(out, count, token, gridDim.z * g.length);
	}
	float dbias = over_lanes(w.dbias), dskip = over_lanes(w.dskip);
	if (!lane.there) return;
	if (lane.sub == 0) out.dbias[part * g.dim + lane.d] = dbias, out.dskip[part * g.dim + lane.d] = dskip;
#pragma unroll
	for (int n = 0; n < NP; n++) w.dalog[n] *= lane.a[0][n] * (1.0f / LOG2E);
	keep_states(out.dalog + lane.of(part, g.dim, 0), w.dalog);
	if (out.dh0 && first == 0) keep_states(out.dh0 + lane.of(row, g.dim, 0), w.ds);
}
