// The forward half of attention.cu in bf16 for Hopper, for heads of D = 64 or 128.
//
// Floors: 4 D operations for each pair of a query and a key, the causal half of them
// (at B8 H16 L2048 D128 137 GFLOP, 0.18 ms at 750 TFLOP/s); 2 D bytes for each query,
// key, value and result (0.05 ms there).
//
// A block of three warpgroups: one copies, two compute, of 64 queries each. Blocks
// take tiles of ROWS queries of a head, those with the most keys first, from a
// counter, so that the next tile's copies run under the last one's end. Keys and
// values come in tiles of ROWS through STAGES buffers, from the diagonal back to the
// first document's start. Probabilities stay in registers. A warpgroup starts the
// next tile's scores before the last one's product with the values, and takes turns
// with the other one, so that exponentials of one run under products of the other.

#define HALF (ROWS * LINE) // bytes of 64 columns of a tile
#define TILE (D / 64 * HALF)
#define THREADS 384

struct StructHeads {
	index_t length, heads, kv_heads;
	float scale;
};

struct Barriers {
	word_t q_full, q_free, tile_full[2], tile_free[2], k_full[STAGES], k_free[STAGES], v_full[STAGES], v_free[STAGES];
	int tile[2];
};

// Range is the work of a tile: a head's queries from q0 on, with tiles of keys from
// first to last.
struct Range {
	int b, head, q0, first, last, start_last;
	inline Range(int tile, const int *starts, const StructHeads &g, int batch) {
		int heads = (int)g.heads, length = (int)g.length, tiles = (length + ROWS - 1) / ROWS, rest = tile % (heads * batch);
		head = rest % heads, b = rest / heads, last = tiles - 1 - tile / (heads * batch), q0 = last * ROWS;
		const int *of_row = starts + (index_t)b * length;
		first = of_row[q0] / ROWS, start_last = of_row[min(q0 + ROWS, length) - 1];
	}
};

#define ADDRESS(member) shared_address(&barriers.member)

// copy is the copying thread's part.
inline void copy(Barriers &barriers, unsigned q, const StructMap &qkv, const int *starts, int *next, const StructHeads &g, int batch) {
	int tiles = (int)((g.length + ROWS - 1) / ROWS * g.heads) * batch, heads = (int)g.heads, kv_heads = (int)g.kv_heads;
	unsigned k = q + TILE, v = k + STAGES * TILE;
	ring<STAGES> ks, vs;
	ring<2> slot;
	int tile = blockIdx.x;
	for (unsigned turn = 0;; turn ^= 1, slot.next()) {
		wait(ADDRESS(tile_free[slot.at]), slot.parity ^ 1);
		*(volatile int *)&barriers.tile[slot.at] = tile;
		arrive(ADDRESS(tile_full[slot.at]));
		if (tile >= tiles) return;
		Range r(tile, starts, g, batch);
		tile = (int)gridDim.x + atomicAdd(next, 1);
		int head_k = heads + r.head / (heads / kv_heads), head_v = head_k + kv_heads;
		auto load_k = [&](int n) {
			wait(ADDRESS(k_free[ks.at]), ks.parity ^ 1);
			expect(ADDRESS(k_full[ks.at]), TILE);
			load(k + ks.at * TILE, qkv, ADDRESS(k_full[ks.at]), 0, n * ROWS, head_k * (D / 64), r.b);
			ks.next();
		};
		auto load_v = [&](int n) {
			wait(ADDRESS(v_free[vs.at]), vs.parity ^ 1);
			expect(ADDRESS(v_full[vs.at]), TILE);
			load(v + vs.at * TILE, qkv, ADDRESS(v_full[vs.at]), 0, n * ROWS, head_v * (D / 64), r.b);
			vs.next();
		};
		wait(ADDRESS(q_free), turn ^ 1);
		expect(ADDRESS(q_full), TILE);
		load(q, qkv, ADDRESS(q_full), 0, r.q0, r.head * (D / 64), r.b);
		load_k(r.last);
		for (int n = r.last - 1; n >= r.first; n--) load_k(n), load_v(n + 1);
		load_v(r.first);
	}
}

// scores starts s = q k^T, multiply o += p v, for the warpgroup's 64 rows.
inline void scores(float (&s)[ROWS / 2], unsigned q, unsigned k) {
#pragma unroll
	for (int i = 0; i < D / 16; i++) {
		unsigned step = i / 4 * HALF + i % 4 * 32;
		wgmma<0, 0>(s, descriptor(q + step, HALF), descriptor(k + step, HALF), i > 0);
	}
	wgmma_commit();
}
inline void multiply(float (&o)[D / 2], const unsigned (&p)[ROWS / 4], unsigned v) {
#pragma unroll
	for (int i = 0; i < ROWS / 16; i++) wgmma<1>(o, p + 4 * i, descriptor(v + i * 16 * LINE, HALF), 1);
	wgmma_commit();
}

// Rows is what a thread knows of its two rows.
struct Rows {
	float top[2], sum[2], keep[2];

	// probabilities takes scores, of keys low to high alone with masked, and keeps
	// the factor of what came before.
	template <bool masked> inline void probabilities(float (&s)[ROWS / 2], const int (&low)[2], const int (&high)[2], float scale) {
#pragma unroll
		for (int r = 0; r < 2; r++) {
			float m = top[r];
#pragma unroll
			for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
				for (int c = 0; c < 2; c++) {
					float &x = s[4 * j + 2 * r + c];
					if (masked && (8 * j + c < low[r] || 8 * j + c > high[r])) x = -INFINITY;
					m = fmaxf(m, x);
				}
			m = fmaxf(m, __shfl_xor_sync(ALL_LANES, m, 1));
			m = fmaxf(m, __shfl_xor_sync(ALL_LANES, m, 2));
			keep[r] = exp2_fast((top[r] - m) * scale);
			top[r] = m;
			float less = m * scale, add = 0;
#pragma unroll
			for (int j = 0; j < ROWS / 8; j++)
#pragma unroll
				for (int c = 0; c < 2; c++) {
					float &x = s[4 * j + 2 * r + c];
					x = exp2_fast(x * scale - less);
					add += x;
				}
			sum[r] = sum[r] * keep[r] + add;
		}
	}
	inline void rescale(float (&o)[D / 2]) const {
#pragma unroll
		for (int i = 0; i < D / 2; i++) o[i] *= keep[i / 2 % 2];
	}
};

inline void pack_all(unsigned (&p)[ROWS / 4], const float (&s)[ROWS / 2]) {
#pragma unroll
	for (int i = 0; i < ROWS / 4; i++) p[i] = pack(s[2 * i], s[2 * i + 1]);
}

// compute is a computing warpgroup's part.
inline void compute(Barriers &barriers, unsigned q, bf16 *out, float *lse, const int *starts, const StructHeads &g, int batch) {
	int tiles = (int)((g.length + ROWS - 1) / ROWS * g.heads) * batch, length = (int)g.length;
	int group = threadIdx.x / 128 - 1, lane = threadIdx.x & 31, row = (threadIdx.x & 127) / 32 * 16 + lane / 4 + group * 64, t = lane % 4 * 2;
	unsigned k = q + TILE, v = k + STAGES * TILE;
	ring<STAGES> ks, vs;
	ring<2> slot;
	float o[D / 2], s[ROWS / 2], scale = g.scale * LOG2E;
	unsigned p[ROWS / 4];
	q += group * 64 * LINE;
	if (group == 1) your_turn(group);
	for (unsigned turn = 0;; turn ^= 1, slot.next()) {
		wait(ADDRESS(tile_full[slot.at]), slot.parity);
		int tile = *(volatile int *)&barriers.tile[slot.at];
		arrive(ADDRESS(tile_free[slot.at])); // every thread that has read it
		if (tile >= tiles) return;
		Range r(tile, starts, g, batch);
		int start[2];
#pragma unroll
		for (int i = 0; i < 2; i++) start[i] = r.q0 + row + 8 * i < length ? starts[(index_t)r.b * length + r.q0 + row + 8 * i] : 0;
		Rows rows{{-INFINITY, -INFINITY}};
#pragma unroll
		for (int i = 0; i < D / 2; i++) o[i] = 0;
		auto probabilities = [&](int n) {
			if (n < r.last && n * ROWS >= r.start_last) return rows.probabilities<false>(s, {0, 0}, {0, 0}, scale);
			int low[2], high[2];
#pragma unroll
			for (int i = 0; i < 2; i++) low[i] = start[i] - n * ROWS - t, high[i] = r.q0 + row + 8 * i - n * ROWS - t;
			rows.probabilities<true>(s, low, high, scale);
		};
		wait(ADDRESS(q_full), turn);
		wait(ADDRESS(k_full[ks.at]), ks.parity);
		my_turn(group);
		wgmma_fence();
		scores(s, q, k + ks.at * TILE);
		your_turn(group);
		wgmma_wait<0>();
		settled(s);
		if (lane == 0) arrive(ADDRESS(k_free[ks.at]));
		ks.next();
		probabilities(r.last);
		pack_all(p, s);
		for (int n = r.last - 1; n >= r.first; n--) {
			wait(ADDRESS(k_full[ks.at]), ks.parity);
			my_turn(group);
			wgmma_fence();
			scores(s, q, k + ks.at * TILE);
			wait(ADDRESS(v_full[vs.at]), vs.parity);
			multiply(o, p, v + vs.at * TILE);
			your_turn(group);
			wgmma_wait<1>();
			settled(s);
			if (lane == 0) arrive(ADDRESS(k_free[ks.at]));
			ks.next();
			probabilities(n);
			wgmma_wait<0>();
			settled(o);
			if (lane == 0) arrive(ADDRESS(v_free[vs.at]));
			vs.next();
			rows.rescale(o);
			pack_all(p, s);
		}
		if (lane == 0) arrive(ADDRESS(q_free));
		wait(ADDRESS(v_full[vs.at]), vs.parity);
		wgmma_fence();
		multiply(o, p, v + vs.at * TILE);
		wgmma_wait<0>();
		settled(o);
		if (lane == 0) arrive(ADDRESS(v_free[vs.at]));
		vs.next();
#pragma unroll
		for (int i = 0; i < 2; i++) {
			float sum = rows.sum[i] + __shfl_xor_sync(ALL_LANES, rows.sum[i], 1);
			sum += __shfl_xor_sync(ALL_LANES, sum, 2);
			int query = r.q0 + row + 8 * i;
			bool there = query < length;
			if (lse && there && t == 0) lse[((index_t)r.b * g.heads + r.head) * length + query] = rows.top[i] * g.scale + logf(sum);
			store_row(out + (((index_t)r.b * length + query) * g.heads + r.head) * D, o, 2 * i, 1.0f / sum, there ? D : 0);
		}
	}
}

// out, and the log-sum-exp of each query in lse[B, heads, L], which may be null. The
// map of qkv has boxes of ROWS positions of a head. `next`, zero at first, counts
// tiles. As many blocks as the device has processors, if there are as many tiles.
extern "C" __global__ void __launch_bounds__(THREADS, 1) attention(bf16 *out, float *lse, const __grid_constant__ StructMap qkv, const int *starts,
	int *next, const __grid_constant__ StructHeads g, index_t batch) {
	extern __shared__ unsigned char memory[];
	__shared__ Barriers barriers;
	unsigned q = (shared_address(memory) + 1023) & ~1023u;
	if (threadIdx.x == 0) {
		barrier_init(ADDRESS(q_full), 1), barrier_init(ADDRESS(q_free), 8);
		for (int i = 0; i < 2; i++) barrier_init(ADDRESS(tile_full[i]), 1), barrier_init(ADDRESS(tile_free[i]), 256);
		for (int i = 0; i < STAGES; i++) {
			barrier_init(ADDRESS(k_full[i]), 1), barrier_init(ADDRESS(k_free[i]), 8);
			barrier_init(ADDRESS(v_full[i]), 1), barrier_init(ADDRESS(v_free[i]), 8);
		}
		barrier_init_done();
	}
	__syncthreads();
	if (threadIdx.x < 128) {
		give_registers<40>();
		if (threadIdx.x == 0) copy(barriers, q, qkv, starts, next, g, (int)batch);
	} else {
		take_registers<232>();
		compute(barriers, q, out, lse, starts, g, (int)batch);
	}
}
