// The selective scan, forward: see scan.cuh.

// Outputs of a walk forward. A first pass writes ends[row, segment, D, N] and the
// sum of delta in deltas[row, segment, D]; the other y, the final state h1, and
// starts: the states before each chunk, each of which may be null.
struct Walk {
	TY *y;
	float *h1, *starts, *ends, *deltas;
};

// walk goes along a segment from the states `from`[D, N], or from zero.
template <bool first_pass> inline void walk(const StructScan &g, const Walk &out, const float *from) {
	__shared__ __align__(16) Tile shared;
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, begin = blockIdx.y * g.segment, origin = row * g.length + begin;
	index_t chunks = (g.length + CHUNK - 1) / CHUNK, states = g.dim * N;
	int count = (int)min(g.segment, g.length - begin), stride = (int)g.dim, begun = 0; // where the next chunk begins
	Lane lane(g.bias, g.alog, g.skip, g.dim);
	index_t start = origin * g.dim + lane.d;
	float *starts = lane.there && out.starts ? out.starts + lane.of(row * chunks + begin / CHUNK, g.dim, 0) : nullptr;
	float s[C][NP] = {}, through[C] = {};
#pragma unroll
	for (int c = 0; c < C; c++)
		if (from) states_at(s[c], from + lane.of(0, g.dim, c));

	Next ahead;
	Position at[AHEAD];
	Pack<TZ> z[AHEAD];
	auto load = [&](int slot, int t) {
		t = min(t, count - 1);
		index_t from = start + (index_t)t * stride;
		at[slot].load(g, from);
		if (!first_pass) z[slot] = pack_at(g.z + from);
	};
	ahead.load(g, row, begin, begin + count);
#pragma unroll
	for (int slot = 0; slot < AHEAD; slot++) load(slot, slot * GROUP + lane.own);
	for (int tile = 0; tile < count; tile += TILE) {
		__syncthreads();
		ahead.put(shared);
		__syncthreads();
		ahead.load(g, row, begin + min(tile + TILE, count - 1), begin + count);
#pragma unroll AHEAD
		for (int i = 0; i < TILE; i += GROUP) {
			int slot = i / GROUP % AHEAD; // known when this is compiled
			int t = tile + i + lane.own;
			float delta[C], decay[C], u[C], slope[C], opened[C], xs[C], sums[GROUP * C];
			at[slot].steps(lane, t < count, shared.open[i + lane.own], delta, decay, u, slope);
#pragma unroll
			for (int c = 0; c < C; c++) {
				xs[c] = at[slot].x[c], opened[c] = first_pass ? 0.0f : gate(z[slot][c], slope[c]);
				if (first_pass && lane.sub % (P / GROUP) == 0) through[c] += decay[c];
			}
			load(slot, t + AHEAD * GROUP);
			if (!first_pass && starts && tile + i == begun) {
#pragma unroll
				for (int c = 0; c < C; c++) keep_states(starts + c * N, s[c]);
				starts += states, begun = begun + CHUNK < count ? begun + CHUNK : -1;
			}
#pragma unroll
			for (int q = 0; q < GROUP; q++) {
				float bn[NP], cn[NP];
				states_at(bn, shared.b + (i + q) * N + lane.sub * NP);
				if (!first_pass) states_at(cn, shared.c + (i + q) * N + lane.sub * NP);
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
			to_owners<GROUP * C, 16>(sums);
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
