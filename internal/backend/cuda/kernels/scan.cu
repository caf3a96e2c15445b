// The selective scan, forward: see scan.cuh.

// Ahead holds B and C of the positions that come next, as they are stored: a
// conversion would wait for them.
struct Ahead {
	static constexpr int each = (TILE * N + THREADS - 1) / THREADS;
	TB b[each];
	TC c[each];

	// load reads `count` positions from p on; those beyond are read as the last.
	void load(const TB *bs, const TC *cs, int count) {
#pragma unroll
		for (int q = 0; q < each; q++) {
			int i = min((int)threadIdx.x + q * THREADS, count * N - 1);
			b[q] = bs[i], c[q] = cs[i];
		}
	}
	void put(float *bs, float *cs) const {
#pragma unroll
		for (int q = 0; q < each; q++) {
			int i = threadIdx.x + q * THREADS;
			if (TILE * N % THREADS == 0 || i < TILE * N) bs[i] = ld(b + q), cs[i] = ld(c + q);
		}
	}
};

// Outputs of a walk forward. A first pass writes ends[row, segment, D, N] and the
// sum of delta in deltas[row, segment, D]; the other y, the final state h1, and
// starts: the states before each chunk, each of which may be null.
struct Walk {
	TY *y;
	float *h1, *starts, *ends, *deltas;
};

// walk goes along a segment from the states `from`[D, N], or from zero.
template <bool first_pass> inline void walk(const StructScan &g, const Walk &out, const float *from) {
	__shared__ __align__(16) float bs[TILE * N], cs[TILE * N];
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, begin = blockIdx.y * g.segment, origin = row * g.length + begin;
	index_t chunks = (g.length + g.chunk - 1) / g.chunk, chunk = begin / g.chunk;
	int count = (int)min(g.segment, g.length - begin), stride = (int)g.dim, until = 0; // the next chunk starts
	Lane lane(g.bias, g.alog, g.skip, g.dim);
	index_t start = origin * g.dim + lane.d;
	float s[C][NP] = {}, through[C] = {};
#pragma unroll
	for (int c = 0; c < C; c++)
		if (from) states_at(s[c], from + lane.of(0, g.dim, c));

	Ahead ahead;
	Position at;
	Pack<TZ> z;
	auto load = [&](int t) {
		t = min(t, count - 1);
		index_t from = start + (index_t)t * stride;
		at.load(g, origin + t, begin + t == 0, from);
		if (!first_pass) z = pack_at(g.z + from);
	};
	ahead.load(g.b + origin * N, g.c + origin * N, min(TILE, count));
	load(lane.own);
	for (int tile = 0; tile < count; tile += TILE) {
		__syncthreads();
		ahead.put(bs, cs);
		__syncthreads();
		int next = min(tile + TILE, count - 1);
		ahead.load(g.b + (origin + next) * N, g.c + (origin + next) * N, min(TILE, count - next));
#pragma unroll 1
		for (int i = 0; i < TILE && tile + i < count; i += GROUP) {
			int t = tile + i + lane.own;
			float delta[C], decay[C], u[C], slope[C], opened[C], xs[C], sums[GROUP * C];
			at.steps(lane, t < count, delta, decay, u, slope);
#pragma unroll
			for (int c = 0; c < C; c++) {
				xs[c] = at.x[c], opened[c] = first_pass ? 0.0f : gate(z[c], slope[c]);
				if (first_pass && lane.sub % (P / GROUP) == 0) through[c] += decay[c];
			}
			load(t + GROUP);
			if (!first_pass && out.starts && until == 0) {
				until = (int)g.chunk;
#pragma unroll
				for (int c = 0; c < C; c++)
					if (lane.there) keep_states(out.starts + lane.of(row * chunks + chunk, g.dim, c), s[c]);
				chunk++;
			}
			until -= GROUP;
#pragma unroll
			for (int q = 0; q < GROUP; q++) {
				float bn[NP], cn[NP];
				states_at(bn, bs + (i + q) * N + lane.sub * NP);
				if (!first_pass) states_at(cn, cs + (i + q) * N + lane.sub * NP);
#pragma unroll
				for (int c = 0; c < C; c++) {
					float dq = from_owner(decay[c], q), uq = from_owner(u[c], q), sum = 0;
#pragma unroll
					for (int n = 0; n < NP; n++) {
						s[c][n] = exp2_fast(lane.a[c][n] * dq) * s[c][n] + uq * bn[n];
						if (!first_pass) sum += s[c][n] * cn[n];
					}
					sums[q * C + c] = sum;
				}
			}
			if (first_pass) continue;
			to_owners<GROUP * C, P / 2>(sums);
			float y[C];
#pragma unroll
			for (int c = 0; c < C; c++) y[c] = (sums[c] + lane.skip[c] * xs[c]) * opened[c];
			if (out.y && t < count && lane.writes) put(out.y + start + (index_t)t * stride, y);
		}
	}
	float *to = first_pass ? out.ends : begin + count == g.length ? out.h1 : nullptr;
#pragma unroll
	for (int c = 0; c < C; c++) {
		if (first_pass) through[c] = over_lanes(through[c]);
		if (!lane.there) continue;
		if (first_pass && lane.sub == 0) out.deltas[part * g.dim + lane.d + c] = through[c];
		if (to) keep_states(to + lane.of(first_pass ? part : row, g.dim, c), s[c]);
	}
}

extern "C" __global__ void __launch_bounds__(THREADS) scan_forward_ends(float *ends, float *deltas, StructScan g) {
	if (blockIdx.y + 1 == gridDim.y) return; // nothing comes after
	walk<true>(g, Walk{nullptr, nullptr, nullptr, ends, deltas}, nullptr);
}

// carry[row, segment, D, N] are the states to start from; without it h0, or zero.
// h1 may be h0.
extern "C" __global__ void __launch_bounds__(THREADS) scan_forward(TY *y, float *h1, float *starts, const float *carry, const float *h0, StructScan g) {
	index_t row = blockIdx.z, states = g.dim * N;
	walk<false>(g, Walk{y, h1, starts, nullptr, nullptr}, carry ? carry + (row * gridDim.y + blockIdx.y) * states : h0 ? h0 + row * states : nullptr);
}
