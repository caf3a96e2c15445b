// The gradients of attention_hopper.cu, each result by the blocks that own it, so
// that every sum has one order: attention_grad_kv has tiles of keys and goes through
// queries, attention_grad_q the other way round.
//
// Floors: 14 D operations for each pair of a query and a key (7 products, of which 2
// are computed by both kernels; a sum of dq across blocks would save those and cost
// D / 16 bytes of traffic a pair, in an order to be kept), the causal half of them:
// at B8 H16 L2048 D128 481 GFLOP, 0.64 ms at 750 TFLOP/s. Bytes: 0.1 ms there.
//
// Both: a warpgroup copies, two compute 64 rows of their tile each. Scores and their
// gradients stay in registers as operands of the next product; the keys' kernel works
// on transposed scores for that. The products of the next step's scores run with the
// last product of this one. ROWS are of a block's own tile, STEP of one of the other
// side, of which STAGES are on their way.

#define THREADS 384
#define OWN_HALF (ROWS * LINE)
#define OWN (D / 64 * OWN_HALF)
#define STEP_HALF (STEP * LINE)
#define OTHER (D / 64 * STEP_HALF)
#define STATS 64 // queries whose statistics lie together

struct StructHeads {
	index_t length, heads, kv_heads;
	float scale;
};

struct Barriers {
	word_t own_full, own_free, tile_full[2], tile_free[2], full[STAGES], free[STAGES];
	int tile[2];
};

#define ADDRESS(member) shared_address(&barriers.member)

// init takes how many threads or warps arrive where a step has been used.
inline void init(Barriers &barriers, int users) {
	if (threadIdx.x == 0) {
		barrier_init(ADDRESS(own_full), 1), barrier_init(ADDRESS(own_free), 8);
		for (int i = 0; i < 2; i++) barrier_init(ADDRESS(tile_full[i]), 1), barrier_init(ADDRESS(tile_free[i]), 256);
		for (int i = 0; i < STAGES; i++) barrier_init(ADDRESS(full[i]), 1), barrier_init(ADDRESS(free[i]), users);
		barrier_init_done();
	}
	__syncthreads();
}

// scores starts s = a b^T for 64 rows of the block's tile and STEP lines.
inline void scores(float (&s)[STEP / 2], unsigned a, unsigned b) {
#pragma unroll
	for (int i = 0; i < D / 16; i++)
		wgmma<0, 0>(s, descriptor(a + i / 4 * OWN_HALF + i % 4 * 32, OWN_HALF), descriptor(b + i / 4 * STEP_HALF + i % 4 * 32, STEP_HALF), i > 0);
	wgmma_commit();
}
// multiply starts sum += p b, over STEP lines.
inline void multiply(float (&sum)[D / 2], const unsigned (&p)[STEP / 4], unsigned b) {
#pragma unroll
	for (int i = 0; i < STEP / 16; i++) wgmma<1>(sum, p + 4 * i, descriptor(b + i * 16 * LINE, STEP_HALF), 1);
	wgmma_commit();
}

#define KEYS_STAGE (2 * OTHER + 1024)

// stats of the next STEP queries: log-sum-exp in powers of 2, then dots, STATS each.
inline float2 stat(unsigned at, int i) {
	float2 v;
	asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(v.x), "=f"(v.y) : "r"(at + 4 * i));
	return v;
}

// probabilities from transposed scores: of queries low to high alone with masked.
template <bool masked>
inline void probabilities(unsigned (&p)[STEP / 4], const float (&s)[STEP / 2], unsigned stats, const int (&low)[2], const int (&high)[2], int t,
	float scale) {
#pragma unroll
	for (int j = 0; j < STEP / 8; j++) {
		float2 l = stat(stats, 8 * j + t);
#pragma unroll
		for (int r = 0; r < 2; r++) {
			float x = exp2_fast(s[4 * j + 2 * r] * scale - l.x), y = exp2_fast(s[4 * j + 2 * r + 1] * scale - l.y);
			if (masked && (8 * j < low[r] || 8 * j >= high[r])) x = 0;
			if (masked && (8 * j + 1 < low[r] || 8 * j + 1 >= high[r])) y = 0;
			p[2 * j + r] = pack(x, y);
		}
	}
}

// The gradients of keys and values: sums over the queries of all heads that share
// them. Maps: qkv in boxes of ROWS and of STEP positions, dout of STEP. Stats as
// attention_stats leaves them; ends[t] is one past the document of position t.
// Grid (kv heads x batch, tiles of keys).
extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_grad_kv(bf16 *dqkv, const __grid_constant__ StructMap own,
	const __grid_constant__ StructMap qkv, const __grid_constant__ StructMap dout, const float *stats, const int *ends,
	const __grid_constant__ StructHeads g) {
	extern __shared__ unsigned char memory[];
	__shared__ Barriers barriers;
	unsigned k = (shared_address(memory) + 1023) & ~1023u, v = k + OWN, stages = v + OWN;
	init(barriers, 256);
	int heads = (int)g.heads, kv_heads = (int)g.kv_heads, length = (int)g.length, of_group = heads / kv_heads;
	int kv = blockIdx.x % kv_heads, b = blockIdx.x / kv_heads, k0 = blockIdx.y * ROWS;
	ends += (index_t)b * length;
	int steps = (ends[min(k0 + ROWS, length) - 1] - k0 + STEP - 1) / STEP, all = steps * of_group;
	if (threadIdx.x < 128) {
		give_registers<24>();
		if (threadIdx.x > 0) return;
		expect(ADDRESS(own_full), 2 * OWN);
		load(k, own, ADDRESS(own_full), 0, k0, (heads + kv) * (D / 64), b);
		load(v, own, ADDRESS(own_full), 0, k0, (heads + kv_heads + kv) * (D / 64), b);
		ring<STAGES> at;
		int tiles = (length + STATS - 1) / STATS;
		for (int head = kv * of_group; head < (kv + 1) * of_group; head++)
			for (int q0 = k0; q0 < k0 + steps * STEP; q0 += STEP, at.next()) {
				unsigned to = stages + at.at * KEYS_STAGE, full = ADDRESS(full[at.at]);
				wait(ADDRESS(free[at.at]), at.parity ^ 1);
				expect(full, 2 * OTHER + 2 * STATS * 4);
				load(to, qkv, full, 0, q0, head * (D / 64), b);
				load(to + OTHER, dout, full, 0, q0, head * (D / 64), b);
				load(to + 2 * OTHER, stats + ((index_t)(b * heads + head) * tiles + q0 / STATS) * 2 * STATS, full, 2 * STATS * 4);
			}
		return;
	}
	take_registers<240>();
	int group = threadIdx.x / 128 - 1, lane = threadIdx.x & 31, row = (threadIdx.x & 127) / 32 * 16 + lane / 4 + group * 64, t = lane % 4 * 2;
	int end[2], sure = ends[k0];
#pragma unroll
	for (int i = 0; i < 2; i++) end[i] = k0 + row + 8 * i < length ? ends[k0 + row + 8 * i] : 0;
	float dk[D / 2], dv[D / 2], s[STEP / 2], dp[STEP / 2], scale = g.scale * LOG2E;
	unsigned p[STEP / 4], ds[STEP / 4];
#pragma unroll
	for (int i = 0; i < D / 2; i++) dk[i] = dv[i] = 0;
	k += group * 64 * LINE, v += group * 64 * LINE;
	ring<STAGES> at;
	wait(ADDRESS(own_full), 0);
	wait(ADDRESS(full[0]), 0);
	wgmma_fence();
	scores(s, k, stages);
	wgmma_commit(); // in the place of the last product of the step before
	scores(dp, v, stages + OTHER);
	int q0 = k0;
	// gradients of a step's scores, once these are there, and the sums of dv.
	auto gradients = [&](unsigned here) {
		wgmma_wait<2>();
		settled(s);
		if (q0 >= k0 + ROWS && q0 + STEP <= sure) probabilities<false>(p, s, here + 2 * OTHER, {0, 0}, {0, 0}, t, scale);
		else {
			int low[2], high[2];
#pragma unroll
			for (int r = 0; r < 2; r++) low[r] = k0 + row + 8 * r - q0 - t, high[r] = end[r] - q0 - t;
			probabilities<true>(p, s, here + 2 * OTHER, low, high, t, scale);
		}
		wgmma_fence();
		multiply(dv, p, here + OTHER);
		wgmma_wait<1>();
		settled(dp);
#pragma unroll
		for (int j = 0; j < STEP / 8; j++) {
			float2 d = stat(here + 2 * OTHER + 4 * STATS, 8 * j + t);
#pragma unroll
			for (int r = 0; r < 2; r++)
				ds[2 * j + r] = pack(low_of(p[2 * j + r]) * (dp[4 * j + 2 * r] - d.x), high_of(p[2 * j + r]) * (dp[4 * j + 2 * r + 1] - d.y));
		}
		wgmma_wait<0>();
		q0 += STEP;
		if (q0 >= k0 + steps * STEP) q0 = k0;
	};
	if (group == 1) your_turn(group);
	unsigned here = stages;
	gradients(here);
	for (int i = 1; i < all; i++) {
		int before = at.at;
		at.next();
		unsigned there = stages + at.at * KEYS_STAGE;
		wait(ADDRESS(full[at.at]), at.parity);
		my_turn(group);
		wgmma_fence();
		scores(s, k, there);
		multiply(dk, ds, here);
		scores(dp, v, there + OTHER);
		your_turn(group);
		here = there;
		gradients(here);
		arrive(ADDRESS(free[before])); // every thread that has read the statistics
	}
	wgmma_fence();
	multiply(dk, ds, here);
	wgmma_wait<0>();
	settled(dk), settled(dv);
#pragma unroll
	for (int i = 0; i < 2; i++) {
		index_t key = k0 + row + 8 * i;
		bf16 *to = dqkv + (((index_t)b * length + key) * (heads + 2 * kv_heads) + heads + kv) * D;
		store_row(to, dk, 2 * i, g.scale, key < length ? D : 0), store_row(to + kv_heads * D, dv, 2 * i, 1.0f, key < length ? D : 0);
	}
}

#define QUERIES_STAGE (2 * OTHER)

// Range is the work of a tile: a head's queries from q0 on, with steps of keys from
// first to last.
struct Range {
	int b, head, q0, first, last, start_last;
	inline Range(int tile, const int *starts, const StructHeads &g, int batch) {
		int heads = (int)g.heads, length = (int)g.length, tiles = (length + ROWS - 1) / ROWS, rest = tile % (heads * batch);
		head = rest % heads, b = rest / heads, q0 = (tiles - 1 - tile / (heads * batch)) * ROWS;
		const int *of_row = starts + (index_t)b * length;
		int end = min(q0 + ROWS, length);
		first = of_row[q0] / STEP, last = (end - 1) / STEP, start_last = of_row[end - 1];
	}
};

// copy is the copying thread's part.
inline void copy(Barriers &barriers, unsigned q, const StructMap &own, const StructMap &own_dout, const StructMap &qkv, const int *starts, int *next,
	const StructHeads &g, int batch) {
	int heads = (int)g.heads, kv_heads = (int)g.kv_heads, tiles = (int)((g.length + ROWS - 1) / ROWS * heads) * batch;
	ring<STAGES> at;
	ring<2> slot;
	int tile = blockIdx.x;
	for (unsigned turn = 0;; turn ^= 1, slot.next()) {
		wait(ADDRESS(tile_free[slot.at]), slot.parity ^ 1);
		*(volatile int *)&barriers.tile[slot.at] = tile;
		arrive(ADDRESS(tile_full[slot.at]));
		if (tile >= tiles) return;
		Range r(tile, starts, g, batch);
		tile = (int)gridDim.x + atomicAdd(next, 1);
		int head_k = heads + r.head / (heads / kv_heads);
		wait(ADDRESS(own_free), turn ^ 1);
		expect(ADDRESS(own_full), 2 * OWN);
		load(q, own, ADDRESS(own_full), 0, r.q0, r.head * (D / 64), r.b);
		load(q + OWN, own_dout, ADDRESS(own_full), 0, r.q0, r.head * (D / 64), r.b);
		for (int n = r.last; n >= r.first; n--, at.next()) {
			unsigned to = q + 2 * OWN + at.at * QUERIES_STAGE, full = ADDRESS(full[at.at]);
			wait(ADDRESS(free[at.at]), at.parity ^ 1);
			expect(full, 2 * OTHER);
			load(to, qkv, full, 0, n * STEP, head_k * (D / 64), r.b);
			load(to + OTHER, qkv, full, 0, n * STEP, (head_k + kv_heads) * (D / 64), r.b);
		}
	}
}

// probabilities from scores: of keys low to high alone with masked.
template <bool masked>
inline void probabilities(float (&s)[STEP / 2], const float (&l)[2], const int (&low)[2], const int (&high)[2], float scale) {
#pragma unroll
	for (int j = 0; j < STEP / 8; j++)
#pragma unroll
		for (int c = 0; c < 4; c++) {
			float &x = s[4 * j + c];
			x = exp2_fast(x * scale - l[c / 2]);
			if (masked && (8 * j + c % 2 < low[c / 2] || 8 * j + c % 2 > high[c / 2])) x = 0;
		}
}

// compute is a computing warpgroup's part.
inline void compute(Barriers &barriers, unsigned q, bf16 *dqkv, const float *stats, const int *starts, const StructHeads &g, int batch) {
	int heads = (int)g.heads, kv_heads = (int)g.kv_heads, length = (int)g.length, tiles = (length + ROWS - 1) / ROWS * heads * batch;
	int group = threadIdx.x / 128 - 1, lane = threadIdx.x & 31, row = (threadIdx.x & 127) / 32 * 16 + lane / 4 + group * 64, t = lane % 4 * 2;
	unsigned stages = q + 2 * OWN, d = q + OWN + group * 64 * LINE;
	q += group * 64 * LINE;
	ring<STAGES> at;
	ring<2> slot;
	float dq[D / 2], s[STEP / 2], dp[STEP / 2], scale = g.scale * LOG2E;
	unsigned ds[STEP / 4];
	for (unsigned turn = 0;; turn ^= 1, slot.next()) {
		wait(ADDRESS(tile_full[slot.at]), slot.parity);
		int tile = *(volatile int *)&barriers.tile[slot.at];
		arrive(ADDRESS(tile_free[slot.at])); // every thread that has read it
		if (tile >= tiles) return;
		Range r(tile, starts, g, batch);
		int start[2];
		float l[2], dots[2];
		const float *of_head = stats + (index_t)(r.b * heads + r.head) * ((length + STATS - 1) / STATS) * 2 * STATS;
#pragma unroll
		for (int i = 0; i < 2; i++) {
			int query = r.q0 + row + 8 * i;
			bool there = query < length;
			start[i] = there ? starts[(index_t)r.b * length + query] : length;
			const float *stat = of_head + query / STATS * 2 * STATS + query % STATS;
			l[i] = there ? stat[0] : 0.0f, dots[i] = there ? stat[STATS] : 0.0f;
		}
#pragma unroll
		for (int i = 0; i < D / 2; i++) dq[i] = 0;
		wait(ADDRESS(own_full), turn);
		wait(ADDRESS(full[at.at]), at.parity);
		wgmma_fence();
		scores(s, q, stages + at.at * QUERIES_STAGE);
		scores(dp, d, stages + at.at * QUERIES_STAGE + OTHER);
		auto gradients = [&](int k0) {
			wgmma_wait<1>();
			settled(s);
			if (k0 + STEP <= r.q0 && k0 >= r.start_last) probabilities<false>(s, l, {0, 0}, {0, 0}, scale);
			else {
				int low[2], high[2];
#pragma unroll
				for (int i = 0; i < 2; i++) low[i] = start[i] - k0 - t, high[i] = r.q0 + row + 8 * i - k0 - t;
				probabilities<true>(s, l, low, high, scale);
			}
			wgmma_wait<0>();
			settled(dp);
#pragma unroll
			for (int j = 0; j < STEP / 4; j++)
				ds[j] = pack(s[2 * j] * (dp[2 * j] - dots[j % 2]), s[2 * j + 1] * (dp[2 * j + 1] - dots[j % 2]));
		};
		unsigned here = stages + at.at * QUERIES_STAGE;
		gradients(r.last * STEP);
		for (int n = r.last - 1; n >= r.first; n--) {
			int before = at.at;
			at.next();
			unsigned there = stages + at.at * QUERIES_STAGE;
			wait(ADDRESS(full[at.at]), at.parity);
			wgmma_fence();
			multiply(dq, ds, here);
			scores(s, q, there);
			scores(dp, d, there + OTHER);
			here = there;
			gradients(n * STEP);
			settled(dq);
			if (lane == 0) arrive(ADDRESS(free[before]));
		}
		if (lane == 0) arrive(ADDRESS(own_free));
		wgmma_fence();
		multiply(dq, ds, here);
		wgmma_wait<0>();
		settled(dq);
		if (lane == 0) arrive(ADDRESS(free[at.at]));
		at.next();
#pragma unroll
		for (int i = 0; i < 2; i++) {
			int query = r.q0 + row + 8 * i;
			store_row(dqkv + (((index_t)r.b * length + query) * (heads + 2 * kv_heads) + r.head) * D, dq, 2 * i, g.scale, query < length ? D : 0);
		}
	}
}

// The gradient of queries. Maps: qkv and dout in boxes of ROWS positions, qkv of
// STEP. `next`, zero at first, counts tiles. Blocks as in attention.
extern "C" __global__ void __launch_bounds__(THREADS, 1) attention_grad_q(bf16 *dqkv, const __grid_constant__ StructMap own,
	const __grid_constant__ StructMap own_dout, const __grid_constant__ StructMap qkv, const float *stats, const int *starts, int *next,
	const __grid_constant__ StructHeads g, index_t batch) {
	extern __shared__ unsigned char memory[];
	__shared__ Barriers barriers;
	unsigned q = (shared_address(memory) + 1023) & ~1023u;
	init(barriers, 8);
	if (threadIdx.x < 128) {
		give_registers<24>();
		if (threadIdx.x == 0) copy(barriers, q, own, own_dout, qkv, starts, next, g, (int)batch);
	} else {
		take_registers<240>();
		compute(barriers, q, dqkv, stats, starts, g, (int)batch);
	}
}
