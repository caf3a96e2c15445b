// The gradient of the selective scan: see scan.cuh.

// stored_states reads the NP states of a lane as they are stored.
inline void stored_states(float (&v)[NP], const TC *p) {
	if constexpr (NP % 4 == 0) {
#pragma unroll
		for (int n = 0; n < NP; n += 4) {
			float u[4];
			ldv(u, p + n);
			v[n] = u[0], v[n + 1] = u[1], v[n + 2] = u[2], v[n + 3] = u[3];
		}
	} else {
#pragma unroll
		for (int n = 0; n < NP; n++) v[n] = ld(p + n);
	}
}

// The first pass: ends[row, segment, D, N] = what a segment makes of a zero gradient
// of the state after it, deltas[row, segment, D] the sum of its steps.
extern "C" __global__ void __launch_bounds__(THREADS) scan_backward_ends(float *ends, float *deltas, const TDY *dys, StructScan g) {
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, begin = blockIdx.y * g.segment, origin = row * g.length + begin;
	int count = (int)min(g.segment, g.length - begin);
	if (blockIdx.y == 0) return; // nothing comes before
	Lane lane(g.bias, g.alog, g.skip, g.dim);
	float ds[C][NP] = {}, through[C] = {};
	Position at;
	Pack<TZ> z;
	Pack<TDY> dy;
	auto load = [&](int t) {
		index_t token = origin + min(max(t, 0), count - 1), from = token * g.dim + lane.d;
		at.load(g, token, token == row * g.length, from);
		z = pack_at(g.z + from), dy = pack_at(dys + from);
	};
	int last = (count - 1) / GROUP * GROUP;
	load(last + lane.own);
#pragma unroll 1
	for (int i = last; i >= 0; i -= GROUP) {
		float delta[C], decay[C], u[C], slope[C], gradient[C];
		bool there = i + lane.own < count;
		at.steps(lane, there, delta, decay, u, slope);
#pragma unroll
		for (int c = 0; c < C; c++) {
			gradient[c] = there ? dy[c] * gate(z[c], slope[c]) : 0.0f;
			if (lane.sub % (P / GROUP) == 0) through[c] += decay[c];
		}
		load(i - GROUP + lane.own);
#pragma unroll
		for (int q = GROUP - 1; q >= 0; q--) {
			float cn[NP];
			stored_states(cn, g.c + (origin + min(i + q, count - 1)) * N + lane.sub * NP);
#pragma unroll
			for (int c = 0; c < C; c++) {
				float dq = from_owner(decay[c], q), gq = from_owner(gradient[c], q);
#pragma unroll
				for (int n = 0; n < NP; n++) ds[c][n] = (ds[c][n] + gq * cn[n]) * exp2_fast(lane.a[c][n] * dq);
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
#define VALUES (2 * NP) // of a lane and position: NP for B, then NP for C

// Lanes of different channels have their states in different orders, if there are four
// of each: so both of two lanes keep what comes first when they exchange halves, and
// need not choose. TURNS is the number of orders; shared memory has B and C in each.
#define TURNS (NP == 4 && P <= 8 ? 4 : 1)
inline int turn_of(int lane) { return TURNS == 1 ? 0 : (lane >> 4 & 1) << 1 | (lane >> 3 & 1); }

// over_channels sums v over the channels of a warp, for each of the P lanes, and
// stores the sums. As in to_owners lanes exchange halves of the `count` values that
// they hold; what a lane holds starts at base.
template <int count, int offset> inline void over_channels(float (&v)[VALUES], int base, float *to) {
	int lane = threadIdx.x & 31;
	if constexpr (TURNS == 4 && offset >= 8) { // v holds count / 2 of B, then of C
#pragma unroll
		for (int j = 0; j < count / 2; j++) {
			int i = j / (count / 4) * (count / 2) + j % (count / 4);
			v[j] = v[i] + __shfl_xor_sync(ALL_LANES, v[i + count / 4], offset);
		}
		over_channels<count / 2, offset / 2>(v, base, to);
	} else if constexpr (TURNS == 4 && count == 2 && offset >= P) {
		bool upper = lane & offset;
		float send = upper ? v[0] : v[1], keep = upper ? v[1] : v[0];
		v[0] = keep + __shfl_xor_sync(ALL_LANES, send, offset);
		over_channels<1, offset / 2>(v, upper ? NP : 0, to);
	} else if constexpr (TURNS == 4 && count == 2) { // offset < P
		to[(lane % P) * VALUES + turn_of(lane)] = v[0], to[(lane % P) * VALUES + NP + turn_of(lane)] = v[1];
	} else if constexpr (TURNS == 4 && offset < P) {
		to[(lane % P) * VALUES + base + turn_of(lane)] = v[0];
	} else if constexpr (TURNS == 4) {
		v[0] += __shfl_xor_sync(ALL_LANES, v[0], offset);
		over_channels<1, offset / 2>(v, base, to);
	} else if constexpr (offset < P) {
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

// sum_warps adds up what the warps have of a chunk's sums[WARPS, chunk, P, VALUES].
inline void sum_warps(const StructGrads &out, const float *sums, int chunk, int count, index_t token, index_t tokens) {
	if constexpr (NP % 4 == 0) {
		for (int i = threadIdx.x * 4; i < count * P * VALUES; i += THREADS * 4) {
			int t = i / (P * VALUES), sub = i / VALUES % P, value = i % VALUES;
			float4 sum = make_float4(0, 0, 0, 0);
#pragma unroll
			for (int w = 0; w < WARPS; w++) {
				float4 one = *(const float4 *)(sums + w * chunk * P * VALUES + i);
				sum.x += one.x, sum.y += one.y, sum.z += one.z, sum.w += one.w;
			}
			float *to = value < NP ? out.db : out.dc;
			*(float4 *)(to + ((index_t)blockIdx.x * tokens + token + t) * N + sub * NP + value % NP) = sum;
		}
		return;
	}
	for (int i = threadIdx.x; i < count * P * VALUES; i += THREADS) {
		int t = i / (P * VALUES), sub = i / VALUES % P, value = i % VALUES;
		float sum = 0;
#pragma unroll
		for (int w = 0; w < WARPS; w++) sum += sums[w * chunk * P * VALUES + i];
		float *to = value < NP ? out.db : out.dc;
		to[((index_t)blockIdx.x * tokens + token + t) * N + sub * NP + value % NP] = sum;
	}
}

// The gradient walks a segment from its end, chunk by chunk. In a chunk it first
// goes forward from the saved state and notes the state before every GROUP of
// positions, in shared memory; then for each group from the last it computes the
// states again, in registers, and goes back over them.
//
// dcarry[row, segment, D, N] is the gradient of the state after each segment;
// without it dh1, or zero.
extern "C" __global__ void __launch_bounds__(THREADS, 512 / THREADS) scan_backward(StructGrads out, const float *dcarry, const float *dh1,
	const float *starts, const TDY *dys, StructScan g) {
	extern __shared__ __align__(16) float shared[];
	int chunk = (int)g.chunk, stride = (int)g.dim;
	float *noted = shared + threadIdx.x * NP;				   // [chunk / GROUP, C, THREADS, NP]
	float *bs = shared + chunk / GROUP * C * THREADS * NP;	   // [TURNS, chunk, N]
	float *cs = bs + TURNS * chunk * N;						   // the same
	float *sums = cs + TURNS * chunk * N;					   // [WARPS, chunk, P, VALUES]
	float *mine = sums + (threadIdx.x >> 5) * chunk * P * VALUES; // this warp's
	index_t row = blockIdx.z, part = row * gridDim.y + blockIdx.y, first = blockIdx.y * g.segment, last = min(first + g.segment, g.length);
	index_t chunks = (g.length + g.chunk - 1) / g.chunk, tokens = gridDim.z * g.length;
	Lane lane(g.bias, g.alog, g.skip, g.dim, turn_of(threadIdx.x & 31));
	float ds[C][NP] = {}, dalog[C][NP] = {}, dbias[C] = {}, dskip[C] = {};
	if (dcarry) lane.read(ds, dcarry, part, g.dim);
	else if (dh1) lane.read(ds, dh1, row, g.dim);

	for (index_t k = (last - 1) / chunk; k * chunk >= first; k--) {
		index_t base = k * chunk, origin = row * g.length + base;
		int count = (int)min((index_t)chunk, last - base), end = (count - 1) / GROUP;
		__syncthreads();
		for (int i = threadIdx.x; i < chunk * N; i += THREADS) {
			float b = i < count * N ? ld(g.b + origin * N + i) : 0.0f, c = i < count * N ? ld(g.c + origin * N + i) : 0.0f;
#pragma unroll
			for (int turn = 0; turn < TURNS; turn++) bs[turn * chunk * N + (i ^ turn)] = b, cs[turn * chunk * N + (i ^ turn)] = c;
		}
		__syncthreads();
		const float *lane_bs = bs + lane.turn * chunk * N + lane.sub * NP, *lane_cs = lane_bs + TURNS * chunk * N;
		Position at;
		index_t start = origin * g.dim + lane.d;
		auto load = [&](int t) {
			at.load(g, origin + t, base + t == 0, start + (index_t)t * stride);
		};
		float s[C][NP];
		lane.read(s, starts, row * chunks + k, g.dim);
		load(min(lane.own, count - 1));
#pragma unroll 1
		for (int j = 0; j <= end; j++) {
#pragma unroll
			for (int c = 0; c < C; c++) keep_states(noted + (j * C + c) * THREADS * NP, s[c]);
			if (j == end) break;
			float delta[C], decay[C], u[C], slope[C];
			at.steps(lane, true, delta, decay, u, slope);
			load(min((j + 1) * GROUP + lane.own, count - 1));
#pragma unroll
			for (int q = 0; q < GROUP; q++) {
				float bn[NP];
				states_at(bn, lane_bs + (j * GROUP + q) * N);
#pragma unroll
				for (int c = 0; c < C; c++) {
					float dq = from_owner(decay[c], q), uq = from_owner(u[c], q);
#pragma unroll
					for (int n = 0; n < NP; n++) s[c][n] = exp2_fast(lane.a[c][n] * dq) * s[c][n] + uq * bn[n];
				}
			}
		}
		Pack<TZ> z;
		Pack<TDY> dy;
		auto load_all = [&](int t) {
			t = min(max(t, 0), count - 1);
			index_t from = start + (index_t)t * stride;
			load(t);
			z = pack_at(g.z + from), dy = pack_at(dys + from);
		};
		load_all(end * GROUP + lane.own);
#pragma unroll 1
		for (int j = end; j >= 0; j--) {
			int t = j * GROUP + lane.own;
			bool there = t < count && lane.there;
			float delta[C], decay[C], u[C], slope[C], x[C], gy[C], opened[C], opening[C], gradient[C];
			at.steps(lane, there, delta, decay, u, slope);
#pragma unroll
			for (int c = 0; c < C; c++) {
				x[c] = at.x[c], gy[c] = there ? dy[c] : 0.0f;
				opened[c] = gate(z[c], opening[c]), gradient[c] = gy[c] * opened[c];
			}
			load_all((j - 1) * GROUP + lane.own);
			float before[C][NP], state[GROUP][C][NP], kept[GROUP][C][NP], dq[GROUP][C], uq[GROUP][C];
#pragma unroll
			for (int c = 0; c < C; c++) states_at(before[c], noted + (j * C + c) * THREADS * NP);
#pragma unroll
			for (int q = 0; q < GROUP; q++) {
				float bn[NP];
				states_at(bn, lane_bs + (j * GROUP + q) * N);
#pragma unroll
				for (int c = 0; c < C; c++) {
					dq[q][c] = from_owner(decay[c], q), uq[q][c] = from_owner(u[c], q);
#pragma unroll
					for (int n = 0; n < NP; n++) {
						kept[q][c][n] = exp2_fast(lane.a[c][n] * dq[q][c]);
						state[q][c][n] = kept[q][c][n] * (q > 0 ? state[max(q - 1, 0)][c][n] : before[c][n]) + uq[q][c] * bn[n];
					}
				}
			}
			float totals[GROUP * C * 3]; // of each position: C . state, B . h and A . (h decay state)
#pragma unroll
			for (int q = GROUP - 1; q >= 0; q--) {
				float v[VALUES] = {}, bn[NP], cn[NP];
				states_at(bn, lane_bs + (j * GROUP + q) * N), states_at(cn, lane_cs + (j * GROUP + q) * N);
#pragma unroll
				for (int c = 0; c < C; c++) {
					float gq = from_owner(gradient[c], q), raw = 0, hb = 0, ha = 0;
#pragma unroll
					for (int n = 0; n < NP; n++) {
						float h = ds[c][n] + gq * cn[n];
						ds[c][n] = h * kept[q][c][n];
						float into = ds[c][n] * (q > 0 ? state[max(q - 1, 0)][c][n] : before[c][n]);
						raw += state[q][c][n] * cn[n];
						hb += h * bn[n];
						ha += into * lane.a[c][n];
						dalog[c][n] += into * dq[q][c];
						v[n] += h * uq[q][c], v[NP + n] += gq * state[q][c][n];
					}
					totals[(q * C + c) * 3] = raw, totals[(q * C + c) * 3 + 1] = hb, totals[(q * C + c) * 3 + 2] = ha;
				}
				over_channels<VALUES, 16>(v, 0, mine + (j * GROUP + q) * P * VALUES);
			}
			to_owners<GROUP * C * 3, P / 2>(totals);
			float dx[C], ddt[C], dz[C];
#pragma unroll
			for (int c = 0; c < C; c++) {
				float raw = totals[3 * c] + lane.skip[c] * x[c], hb = totals[3 * c + 1], ha = totals[3 * c + 2];
				ddt[c] = (x[c] * hb + ha * (1.0f / LOG2E)) * slope[c];
				dx[c] = gradient[c] * lane.skip[c] + delta[c] * hb, dz[c] = gy[c] * raw * opening[c];
				if (!there || !lane.writes) continue;
				dbias[c] += ddt[c], dskip[c] += gradient[c] * x[c];
			}
			if (!there || !lane.writes) continue;
			index_t to = start + (index_t)t * stride;
			if (out.dx) put(out.dx + to, dx);
			if (out.ddt) put(out.ddt + to, ddt);
			if (out.dz) put(out.dz + to, dz);
		}
		__syncthreads();
		sum_warps(out, sums, chunk, count, origin, tokens);
	}
#pragma unroll
	for (int c = 0; c < C; c++) {
		dbias[c] = over_lanes(dbias[c]), dskip[c] = over_lanes(dskip[c]);
		if (!lane.there) continue;
		if (lane.sub == 0) out.dbias[part * g.dim + lane.d + c] = dbias[c], out.dskip[part * g.dim + lane.d + c] = dskip[c];
#pragma unroll
		for (int n = 0; n < NP; n++) dalog[c][n] *= lane.a[c][n] * (1.0f / LOG2E);
	}
	if (!lane.there) return;
	lane.write(dalog, out.dalog, part, g.dim);
	if (out.dh0 && first == 0) lane.write(ds, out.dh0, row, g.dim);
}
