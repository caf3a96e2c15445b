// The first pass of the gradient of the selective scan: see scan.cuh.
//
// Floors, B1 L65536 D4096 N16 in bf16 on an H200: 2.1 GB (0.55 ms); an exponential a state
// and position and five special functions a channel and position (1.4 ms).

// ends[row, segment, D, N] = what a segment makes of a zero gradient of the state after
// it, deltas[row, segment, D] the sum of its steps.
extern "C" __global__ void __launch_bounds__(THREADS) scan_backward_ends(float *ends, float *deltas, const TDY *dys, StructScan g) {
	__shared__ __align__(16) Tile shared;
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, begin = blockIdx.y * g.segment, origin = row * g.length + begin;
	int count = (int)min(g.segment, g.length - begin);
	if (blockIdx.y == 0) return; // nothing comes before
	Lane lane(g.bias, g.alog, g.skip, g.dim);
	float ds[C][NP] = {}, through[C] = {};
	Next ahead;
	Position at[AHEAD];
	Pack<TZ> z[AHEAD];
	Pack<TDY> dy[AHEAD];
	auto load = [&](int slot, int t) {
		index_t from = (origin + min(max(t, 0), count - 1)) * g.dim + lane.d;
		at[slot].load(g, from), z[slot] = pack_at(g.z + from), dy[slot] = pack_at(dys + from);
	};
	int tile = (count - 1) / TILE * TILE;
	ahead.load(g, row, begin + tile, begin + count);
#pragma unroll
	for (int slot = 0; slot < AHEAD; slot++) load(slot, tile + TILE - (slot + 1) * GROUP + lane.own);
	for (; tile >= 0; tile -= TILE) {
		__syncthreads();
		ahead.put(shared);
		__syncthreads();
		ahead.load(g, row, begin + max(tile - TILE, 0), begin + count);
#pragma unroll AHEAD
		for (int i = 0; i < TILE; i += GROUP) {
			int slot = i / GROUP % AHEAD, from = TILE - GROUP - i, t = tile + from + lane.own; // the slot is known when this is compiled
			bool there = t < count;
			float delta[C], decay[C], u[C], slope[C], gradient[C];
			at[slot].steps(lane, there, shared.open[from + lane.own], delta, decay, u, slope);
#pragma unroll
			for (int c = 0; c < C; c++) {
				gradient[c] = there ? dy[slot][c] * gate(z[slot][c], slope[c]) : 0.0f;
				if (lane.sub % (P / GROUP) == 0) through[c] += decay[c];
			}
			load(slot, t - AHEAD * GROUP);
#pragma unroll
			for (int q = GROUP - 1; q >= 0; q--) {
				float cn[NP];
				states_at(cn, shared.c + (from + q) * N + lane.sub * NP);
#pragma unroll
				for (int c = 0; c < C; c++) {
					float dq = from_owner(decay[c], q), gq = from_owner(gradient[c], q);
#pragma unroll
					for (int n = 0; n < NP; n++) ds[c][n] = (ds[c][n] + gq * cn[n]) * exp2_fast(lane.a[c][n] * dq);
				}
			}
		}
	}
#pragma unroll
	for (int c = 0; c < C; c++) {
		through[c] = over_lanes(through[c]);
		if (!lane.there) continue;
		if (lane.sub == 0) deltas[part * g.dim + lane.d + c] = through[c];
		keep_states(ends + lane.of(part, g.dim, c), ds[c]);
	}
}
