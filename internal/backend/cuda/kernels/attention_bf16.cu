// attention.cu in bf16 on tensor cores (mma.sync), for heads of D = 16 n. A warp
// has 16 rows of a tile of 64; what goes from one product into the next stays in
// its registers. Tiles of the other side come through two buffers in shared
// memory, whose lines are padded so that eight of them lie in different banks.
//
// Floor: operations, 4 D a pair of positions forward and 14 D for the gradient,
// which computes the scores once for queries and once for keys so that no sum
// needs atomics.

#define ROW (D + 8)
#define ROWS 64 // of a block's own tile
#define THREADS 128
#define STEPS (D / 16)

struct StructHeads {
	index_t length, heads, kv_heads;
	float scale;
};

inline unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

// load starts to copy rows of a head, zeros beyond the last.
template <int rows> inline void load(bf16 *to, const bf16 *from, index_t ld_from, index_t row0, index_t limit) {
#pragma unroll
	for (int i = threadIdx.x; i < rows * D / 8; i += THREADS) {
		int r = i / (D / 8), c = i % (D / 8) * 8, bytes = row0 + r < limit ? 16 : 0;
		asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to + r * ROW + c)),
					 "l"(bytes ? from + (row0 + r) * ld_from + c : from), "r"(bytes)
					 : "memory");
	}
}
inline void commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int pending> inline void wait() { asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory"); }

// fragment is a 16 x 16 piece of a matrix in a warp's registers.
struct fragment {
	unsigned r[4];
};

template <bool transposed> inline fragment matrix(const bf16 *p) {
	fragment f;
	if (transposed)
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
					 : "=r"(f.r[0]), "=r"(f.r[1]), "=r"(f.r[2]), "=r"(f.r[3])
					 : "r"(shared_address(p))
					 : "memory");
	else
		asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
					 : "=r"(f.r[0]), "=r"(f.r[1]), "=r"(f.r[2]), "=r"(f.r[3])
					 : "r"(shared_address(p))
					 : "memory");
	return f;
}
// left is the operand of 16 rows; right that of 16 columns, each a line of memory;
// right_lines that of 16 columns across 16 lines.
inline fragment left(const bf16 *p) {
	int lane = threadIdx.x & 31;
	return matrix<false>(p + lane % 16 * ROW + lane / 16 * 8);
}
inline fragment right(const bf16 *p) {
	int lane = threadIdx.x & 31;
	return matrix<false>(p + (lane / 16 * 8 + lane % 8) * ROW + lane / 8 % 2 * 8);
}
inline fragment right_lines(const bf16 *p) {
	int lane = threadIdx.x & 31;
	return matrix<true>(p + lane % 16 * ROW + lane / 16 * 8);
}

inline void mma(float (&c)[4], const fragment &a, unsigned b0, unsigned b1) {
	asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
				 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
				 : "r"(a.r[0]), "r"(a.r[1]), "r"(a.r[2]), "r"(a.r[3]), "r"(b0), "r"(b1));
}

inline unsigned pack(float x, float y) { return round_bf16(x) | (unsigned)round_bf16(y) << 16; }

// operand makes 16 columns of sums, two tiles of 8, the left operand of a product.
inline fragment operand(const float (&x)[4], const float (&y)[4]) {
	return fragment{{pack(x[0], x[1]), pack(x[2], x[3]), pack(y[0], y[1]), pack(y[2], y[3])}};
}

// scores computes products of the warp's 16 rows with n lines: s[n / 8].
template <int n> inline void scores(float (&s)[n / 8][4], const fragment (&a)[STEPS], const bf16 *lines) {
#pragma unroll
	for (int j = 0; j < n / 16; j++) {
#pragma unroll
		for (int i = 0; i < 4; i++) s[2 * j][i] = 0, s[2 * j + 1][i] = 0;
#pragma unroll
		for (int k = 0; k < STEPS; k++) {
			fragment b = right(lines + j * 16 * ROW + k * 16);
			mma(s[2 * j], a[k], b.r[0], b.r[1]), mma(s[2 * j + 1], a[k], b.r[2], b.r[3]);
		}
	}
}

// multiply adds p, 16 rows by n, times n lines of D to acc.
template <int n> inline void multiply(float (&acc)[D / 8][4], const float (&p)[n / 8][4], const bf16 *lines) {
#pragma unroll
	for (int j = 0; j < n / 16; j++) {
		fragment a = operand(p[2 * j], p[2 * j + 1]);
#pragma unroll
		for (int k = 0; k < STEPS; k++) {
			fragment b = right_lines(lines + j * 16 * ROW + k * 16);
			mma(acc[2 * k], a, b.r[0], b.r[1]), mma(acc[2 * k + 1], a, b.r[2], b.r[3]);
		}
	}
}

// store writes a warp's 16 rows of sums, those below the limit.
inline void store(bf16 *to, index_t ld_to, index_t row0, index_t limit, const float (&acc)[D / 8][4], float scale0, float scale1) {
	int lane = threadIdx.x & 31;
	index_t row = row0 + lane / 4;
#pragma unroll
	for (int k = 0; k < D / 8; k++) {
		int c = k * 8 + lane % 4 * 2;
		if (row < limit) *(unsigned *)(to + row * ld_to + c) = pack(acc[k][0] * scale0, acc[k][1] * scale0);
		if (row + 8 < limit) *(unsigned *)(to + (row + 8) * ld_to + c) = pack(acc[k][2] * scale1, acc[k][3] * scale1);
	}
}

// quad sums, or takes the largest, over the four lanes that share rows.
inline float quad_sum(float v) {
	v += __shfl_xor_sync(ALL_LANES, v, 1);
	return v + __shfl_xor_sync(ALL_LANES, v, 2);
}
inline float quad_max(float v) {
	v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 1));
	return fmaxf(v, __shfl_xor_sync(ALL_LANES, v, 2));
}

// Geometry of a block: heads in qkv of one sequence.
struct Place {
	const bf16 *queries, *keys, *values;
	index_t width;
	Place(const bf16 *qkv, const StructHeads &g, index_t head, index_t kv) {
		width = (g.heads + 2 * g.kv_heads) * D;
		const bf16 *row = qkv + blockIdx.z * g.length * width;
		queries = row + head * D, keys = row + (g.heads + kv) * D, values = keys + g.kv_heads * D;
	}
};

#define KEYS 64

// Grid (tiles of queries, heads, batch). Shared memory: 4 [64][ROW].
extern "C" __global__ void __launch_bounds__(THREADS) attention(bf16 *out, float *lse, const bf16 *qkv, const int *starts, StructHeads g) {
	extern __shared__ __align__(16) unsigned char memory[];
	bf16 *buffer = (bf16 *)memory; // keys and values, twice
	index_t head = blockIdx.y, q0 = (index_t)(gridDim.x - 1 - blockIdx.x) * ROWS; // the longest first
	Place at(qkv, g, head, head / (g.heads / g.kv_heads));
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
	index_t row = q0 + warp * 16 + lane / 4;
	starts += blockIdx.z * g.length;
	index_t start0 = row < g.length ? starts[row] : g.length, start1 = row + 8 < g.length ? starts[row + 8] : g.length;
	index_t first = starts[q0] / KEYS * KEYS;
	fragment q[STEPS];
	load<ROWS>(buffer, at.queries, at.width, q0, g.length);
	commit(), wait<0>();
	__syncthreads();
#pragma unroll
	for (int k = 0; k < STEPS; k++) q[k] = left(buffer + warp * 16 * ROW + k * 16);
	__syncthreads();
	auto fetch = [&](index_t k0, int half) {
		if (k0 <= q0) {
			load<KEYS>(buffer + half * 2 * KEYS * ROW, at.keys, at.width, k0, g.length);
			load<KEYS>(buffer + (half * 2 + 1) * KEYS * ROW, at.values, at.width, k0, g.length);
		}
		commit();
	};
	float acc[D / 8][4] = {}, top0 = -INFINITY, top1 = -INFINITY, sum0 = 0, sum1 = 0, scale = g.scale * LOG2E;
	fetch(first, 0);
	int half = 0;
	for (index_t k0 = first; k0 <= q0; k0 += KEYS, half ^= 1) {
		fetch(k0 + KEYS, half ^ 1);
		wait<1>();
		__syncthreads();
		const bf16 *keys = buffer + half * 2 * KEYS * ROW, *values = keys + KEYS * ROW;
		float s[KEYS / 8][4];
		scores<KEYS>(s, q, keys);
		float m0 = top0, m1 = top1;
#pragma unroll
		for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				index_t key = k0 + j * 8 + lane % 4 * 2 + i;
				s[j][i] = key <= row && key >= start0 ? s[j][i] * scale : -INFINITY;
				s[j][i + 2] = key <= row + 8 && key >= start1 ? s[j][i + 2] * scale : -INFINITY;
				m0 = fmaxf(m0, s[j][i]), m1 = fmaxf(m1, s[j][i + 2]);
			}
		m0 = quad_max(m0), m1 = quad_max(m1);
		float base0 = m0 == -INFINITY ? 0.0f : m0, base1 = m1 == -INFINITY ? 0.0f : m1; // rows without a key yet
		float keep0 = exp2_fast(top0 - base0), keep1 = exp2_fast(top1 - base1), add0 = 0, add1 = 0;
#pragma unroll
		for (int j = 0; j < KEYS / 8; j++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				s[j][i] = exp2_fast(s[j][i] - base0), s[j][i + 2] = exp2_fast(s[j][i + 2] - base1);
				add0 += s[j][i], add1 += s[j][i + 2];
			}
		sum0 = sum0 * keep0 + add0, sum1 = sum1 * keep1 + add1, top0 = m0, top1 = m1;
#pragma unroll
		for (int k = 0; k < D / 8; k++) acc[k][0] *= keep0, acc[k][1] *= keep0, acc[k][2] *= keep1, acc[k][3] *= keep1;
		multiply<KEYS>(acc, s, values);
		__syncthreads();
	}
	sum0 = quad_sum(sum0), sum1 = quad_sum(sum1);
	store(out + (blockIdx.z * g.length * g.heads + head) * D, g.heads * D, q0 + warp * 16, g.length, acc, 1.0f / sum0, 1.0f / sum1);
	if (!lse || lane % 4) return;
	float *to = lse + (blockIdx.z * g.heads + head) * g.length;
	if (row < g.length) to[row] = top0 / LOG2E + logf(sum0);
	if (row + 8 < g.length) to[row + 8] = top1 / LOG2E + logf(sum1);
}

#define TILE 32 // lines of the other side in the gradients

// The gradient of queries. Grid (tiles of queries, heads, batch). Shared memory: 2
// [64][ROW] and 4 [32][ROW].
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_grad_q(bf16 *dqkv, const bf16 *qkv, const bf16 *dout, const float *lse,
	const float *dots, const int *starts, StructHeads g) {
	extern __shared__ __align__(16) unsigned char memory[];
	bf16 *own = (bf16 *)memory, *buffer = own + 2 * ROWS * ROW; // keys and values, twice
	index_t head = blockIdx.y, q0 = (index_t)(gridDim.x - 1 - blockIdx.x) * ROWS, of_head = (blockIdx.z * g.heads + head) * g.length;
	Place at(qkv, g, head, head / (g.heads / g.kv_heads));
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
	index_t row = q0 + warp * 16 + lane / 4, end = min(q0 + ROWS, g.length);
	bool there0 = row < g.length, there1 = row + 8 < g.length;
	starts += blockIdx.z * g.length;
	index_t start0 = there0 ? starts[row] : g.length, start1 = there1 ? starts[row + 8] : g.length, first = starts[q0] / TILE * TILE;
	float scale = g.scale * LOG2E;
	float lse0 = there0 ? lse[of_head + row] * LOG2E : 0.0f, lse1 = there1 ? lse[of_head + row + 8] * LOG2E : 0.0f;
	float dot0 = there0 ? dots[of_head + row] : 0.0f, dot1 = there1 ? dots[of_head + row + 8] : 0.0f;
	load<ROWS>(own, at.queries, at.width, q0, g.length);
	load<ROWS>(own + ROWS * ROW, dout + (blockIdx.z * g.length * g.heads + head) * D, g.heads * D, q0, g.length);
	auto fetch = [&](index_t k0, int half) {
		if (k0 < end) {
			load<TILE>(buffer + half * 2 * TILE * ROW, at.keys, at.width, k0, g.length);
			load<TILE>(buffer + (half * 2 + 1) * TILE * ROW, at.values, at.width, k0, g.length);
		}
		commit();
	};
	fetch(first, 0);
	wait<0>();
	__syncthreads();
	fragment q[STEPS], d[STEPS];
#pragma unroll
	for (int k = 0; k < STEPS; k++)
		q[k] = left(own + warp * 16 * ROW + k * 16), d[k] = left(own + (ROWS + warp * 16) * ROW + k * 16);
	float acc[D / 8][4] = {};
	int half = 0;
	for (index_t k0 = first; k0 < end; k0 += TILE, half ^= 1) {
		fetch(k0 + TILE, half ^ 1);
		wait<1>();
		__syncthreads();
		const bf16 *keys = buffer + half * 2 * TILE * ROW, *values = keys + TILE * ROW;
		float s[TILE / 8][4], dp[TILE / 8][4];
		scores<TILE>(s, q, keys), scores<TILE>(dp, d, values);
#pragma unroll
		for (int j = 0; j < TILE / 8; j++)
#pragma unroll
			for (int i = 0; i < 2; i++) {
				index_t key = k0 + j * 8 + lane % 4 * 2 + i;
				float p0 = key <= row && key >= start0 ? exp2_fast(s[j][i] * scale - lse0) : 0.0f;
				float p1 = key <= row + 8 && key >= start1 ? exp2_fast(s[j][i + 2] * scale - lse1) : 0.0f;
				s[j][i] = p0 * (dp[j][i] - dot0), s[j][i + 2] = p1 * (dp[j][i + 2] - dot1);
			}
		multiply<TILE>(acc, s, keys);
		__syncthreads();
	}
	store(dqkv + blockIdx.z * g.length * at.width + head * D, at.width, q0 + warp * 16, g.length, acc, g.scale, g.scale);
}

// The gradients of keys and values: sums over the queries of all heads that share
// them, in order. Rows are keys here, and scores transposed. Grid (tiles of keys,
// kv heads, batch). Shared memory: 2 [64][ROW], 4 [32][ROW] and 6 [32] floats.
extern "C" __global__ void __launch_bounds__(THREADS, 2) attention_grad_kv(bf16 *dqkv, const bf16 *qkv, const bf16 *dout, const float *lse,
	const float *dots, const int *starts, StructHeads g) {
	extern __shared__ __align__(16) unsigned char memory[];
	bf16 *own = (bf16 *)memory, *buffer = own + 2 * ROWS * ROW; // queries and dout, twice
	float *of_query = (float *)(buffer + 4 * TILE * ROW);		 // lse, dots, first key, twice
	index_t kv = blockIdx.y, k0 = (index_t)blockIdx.x * ROWS, group = g.heads / g.kv_heads;
	Place at(qkv, g, kv * group, kv);
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
	index_t key = k0 + warp * 16 + lane / 4;
	starts += blockIdx.z * g.length;
	index_t end = k0; // queries that may see a key of the tile
	while (end < g.length && starts[end] < min(k0 + ROWS, g.length)) end += TILE;
	index_t tiles = (end - k0) / TILE;
	load<ROWS>(own, at.keys, at.width, k0, g.length);
	load<ROWS>(own + ROWS * ROW, at.values, at.width, k0, g.length);
	auto fetch = [&](index_t i, int half) {
		if (i < tiles * group) {
			index_t head = kv * group + i / tiles, q0 = k0 + i % tiles * TILE, of_head = (blockIdx.z * g.heads + head) * g.length;
			load<TILE>(buffer + half * 2 * TILE * ROW, at.queries + i / tiles * D, at.width, q0, g.length);
			load<TILE>(buffer + (half * 2 + 1) * TILE * ROW, dout + (blockIdx.z * g.length * g.heads + head) * D, g.heads * D, q0, g.length);
			if (threadIdx.x < TILE) {
				index_t query = q0 + threadIdx.x;
				bool there = query < g.length;
				float *to = of_query + half * 3 * TILE + threadIdx.x;
				to[0] = there ? lse[of_head + query] * LOG2E : 0.0f, to[TILE] = there ? dots[of_head + query] : 0.0f;
				to[2 * TILE] = __int_as_float(there ? starts[query] : (int)g.length);
			}
		}
		commit();
	};
	fetch(0, 0);
	float dk[D / 8][4] = {}, dv[D / 8][4] = {}, scale = g.scale * LOG2E;
	int half = 0;
	for (index_t i = 0; i < tiles * group; i++, half ^= 1) {
		fetch(i + 1, half ^ 1);
		wait<1>();
		__syncthreads();
		index_t q0 = k0 + i % tiles * TILE;
		const bf16 *queries = buffer + half * 2 * TILE * ROW, *douts = queries + TILE * ROW;
		const float *numbers = of_query + half * 3 * TILE;
		float s[TILE / 8][4], dp[TILE / 8][4];
		fragment a[STEPS];
#pragma unroll
		for (int k = 0; k < STEPS; k++) a[k] = left(own + warp * 16 * ROW + k * 16);
		scores<TILE>(s, a, queries);
#pragma unroll
		for (int k = 0; k < STEPS; k++) a[k] = left(own + (ROWS + warp * 16) * ROW + k * 16);
		scores<TILE>(dp, a, douts);
#pragma unroll
		for (int j = 0; j < TILE / 8; j++)
#pragma unroll
			for (int c = 0; c < 4; c++) {
				int at_query = j * 8 + lane % 4 * 2 + c % 2;
				index_t query = q0 + at_query, mine = key + c / 2 * 8;
				bool sees = mine <= query && query < g.length && mine >= __float_as_int(numbers[2 * TILE + at_query]);
				float p = sees ? exp2_fast(s[j][c] * scale - numbers[at_query]) : 0.0f;
				s[j][c] = p, dp[j][c] = p * (dp[j][c] - numbers[TILE + at_query]);
			}
		multiply<TILE>(dv, s, douts), multiply<TILE>(dk, dp, queries);
		__syncthreads();
	}
	bf16 *to = dqkv + blockIdx.z * g.length * at.width + (g.heads + kv) * D;
	store(to, at.width, k0 + warp * 16, g.length, dk, g.scale, g.scale);
	store(to + g.kv_heads * D, at.width, k0 + warp * 16, g.length, dv, 1.0f, 1.0f);
}
