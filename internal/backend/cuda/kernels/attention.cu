// Causal attention within documents (model/op/attention.go): softmax(q k^T /
// sqrt(D)) v, without a matrix of scores in memory. Tiles of T queries by T keys,
// 256 threads in 16 x 16, each with R x R scores. `starts` are the first positions
// of documents. A row of qkv holds the heads of queries, then of keys, of values.

#define R (T / 16)
#define C ((D + 15) / 16) // columns of a head a thread has
#define LD (D + 1)

struct StructHeads {
	index_t length, heads, kv_heads;
	float scale;
};

inline index_t width(const StructHeads &g) { return (g.heads + 2 * g.kv_heads) * D; }

// load copies T rows of a head, zero beyond the last, to shared memory [T][LD].
template <typename E> inline void load(float *to, const E *from, index_t ld_from, index_t row0, index_t rows) {
	for (int i = threadIdx.x; i < T * D; i += 256) {
		index_t row = row0 + i / D;
		to[i / D * LD + i % D] = row < rows ? ld(from + row * ld_from + i % D) : 0.0f;
	}
}

// dots computes the products of the thread's rows of a and of b, [T][LD] both.
inline void dots(float (&s)[R][R], const float *a, const float *b) {
	int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
	for (int i = 0; i < R; i++)
#pragma unroll
		for (int j = 0; j < R; j++) s[i][j] = 0;
#pragma unroll 4
	for (int c = 0; c < D; c++) {
		float u[R], v[R];
#pragma unroll
		for (int i = 0; i < R; i++) u[i] = a[(ty + 16 * i) * LD + c], v[i] = b[(tx + 16 * i) * LD + c];
#pragma unroll
		for (int i = 0; i < R; i++)
#pragma unroll
			for (int j = 0; j < R; j++) s[i][j] += u[i] * v[j];
	}
}

// multiply adds p[T][T+1] v[T][LD] to acc; transposed, p^T v.
template <bool transposed> inline void multiply(float (&acc)[R][C], const float *p, const float *v) {
	int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll 4
	for (int k = 0; k < T; k++) {
		float u[R];
#pragma unroll
		for (int i = 0; i < R; i++) u[i] = transposed ? p[k * (T + 1) + ty + 16 * i] : p[(ty + 16 * i) * (T + 1) + k];
#pragma unroll
		for (int c = 0; c < C; c++) {
			float w = D % 16 == 0 || tx + 16 * c < D ? v[k * LD + tx + 16 * c] : 0.0f;
#pragma unroll
			for (int i = 0; i < R; i++) acc[i][c] += u[i] * w;
		}
	}
}

// half_warp sums, or takes the largest, over the 16 threads that share rows.
inline float row_sum(float v) {
	for (int o = 8; o > 0; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
	return v;
}
inline float row_max(float v) {
	for (int o = 8; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, o));
	return v;
}

// out, and the log-sum-exp of each query in lse[B, heads, L], which may be null.
// Grid (tiles of queries, heads, batch). Shared memory: 3 [T][LD] and [T][T+1].
extern "C" __global__ void __launch_bounds__(256) attention(OUT *out, float *lse, const QKV *qkv, const int *starts, StructHeads g) {
	extern __shared__ float memory[];
	float *q = memory, *k = q + T * LD, *v = k + T * LD, *p = v + T * LD;
	index_t head = blockIdx.y, q0 = (index_t)blockIdx.x * T, w = width(g);
	const QKV *row = qkv + blockIdx.z * g.length * w;
	const QKV *keys = row + (g.heads + head / (g.heads / g.kv_heads)) * D, *values = keys + g.kv_heads * D;
	starts += blockIdx.z * g.length;
	int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
	float acc[R][C] = {}, top[R], sum[R] = {};
	index_t start[R];
#pragma unroll
	for (int i = 0; i < R; i++) top[i] = -INFINITY, start[i] = q0 + ty + 16 * i < g.length ? starts[q0 + ty + 16 * i] : g.length;
	load(q, row + head * D, w, q0, g.length);
	for (index_t k0 = starts[q0] / T * T; k0 <= q0; k0 += T) {
		__syncthreads();
		load(k, keys, w, k0, g.length), load(v, values, w, k0, g.length);
		__syncthreads();
		float s[R][R];
		dots(s, q, k);
#pragma unroll
		for (int i = 0; i < R; i++) {
			float m = top[i];
#pragma unroll
			for (int j = 0; j < R; j++) {
				index_t key = k0 + tx + 16 * j, query = q0 + ty + 16 * i;
				s[i][j] = key <= query && key >= start[i] ? s[i][j] * g.scale : -INFINITY;
				m = fmaxf(m, s[i][j]);
			}
			m = row_max(m);
			float keep = m == -INFINITY ? 1.0f : expf(top[i] - m), add = 0;
#pragma unroll
			for (int j = 0; j < R; j++) {
				float e = m == -INFINITY ? 0.0f : expf(s[i][j] - m);
				p[(ty + 16 * i) * (T + 1) + tx + 16 * j] = e;
				add += e;
			}
			sum[i] = sum[i] * keep + row_sum(add);
			top[i] = m;
#pragma unroll
			for (int c = 0; c < C; c++) acc[i][c] *= keep;
		}
		__syncthreads();
		multiply<false>(acc, p, v);
	}
#pragma unroll
	for (int i = 0; i < R; i++) {
		index_t query = q0 + ty + 16 * i;
		if (query >= g.length) continue;
		if (lse && tx == 0) lse[(blockIdx.z * g.heads + head) * g.length + query] = top[i] + logf(sum[i]);
#pragma unroll
		for (int c = 0; c < C; c++)
			if (tx + 16 * c < D) st(out + ((blockIdx.z * g.length + query) * g.heads + head) * D + tx + 16 * c, acc[i][c] / sum[i]);
	}
}

// scores gives the probabilities p and, from the products dp of dout and values,
// the gradients of the scores ds, both for the tile at (q0, k0), in shared memory.
inline void scores(float *ps, float *dss, const float *q, const float *k, const float *dout, const float *v, const float *lse, const float *dots_out,
	const int *starts, index_t q0, index_t k0, const StructHeads &g) {
	int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
	float s[R][R], dp[R][R];
	dots(s, q, k), dots(dp, dout, v);
#pragma unroll
	for (int i = 0; i < R; i++) {
		index_t query = q0 + ty + 16 * i;
		bool there = query < g.length;
		float l = there ? lse[query] : 0.0f, mean = there ? dots_out[query] : 0.0f;
		index_t start = there ? starts[query] : g.length;
#pragma unroll
		for (int j = 0; j < R; j++) {
			index_t key = k0 + tx + 16 * j;
			float p = key <= query && key >= start ? expf(s[i][j] * g.scale - l) : 0.0f;
			int at = (ty + 16 * i) * (T + 1) + tx + 16 * j;
			if (ps) ps[at] = p;
			dss[at] = p * (dp[i][j] - mean) * g.scale;
		}
	}
}

// The gradient of queries. Grid (tiles of queries, heads, batch). Shared memory:
// 4 [T][LD] and [T][T+1].
extern "C" __global__ void __launch_bounds__(256) attention_grad_q(DQKV *dqkv, const QKV *qkv, const DOUT *dout, const float *lse,
	const float *dots_out, const int *starts, StructHeads g) {
	extern __shared__ float memory[];
	float *q = memory, *k = q + T * LD, *v = k + T * LD, *d = v + T * LD, *ds = d + T * LD;
	index_t head = blockIdx.y, q0 = (index_t)blockIdx.x * T, w = width(g), of_head = (blockIdx.z * g.heads + head) * g.length;
	const QKV *row = qkv + blockIdx.z * g.length * w;
	const QKV *keys = row + (g.heads + head / (g.heads / g.kv_heads)) * D, *values = keys + g.kv_heads * D;
	starts += blockIdx.z * g.length;
	float acc[R][C] = {};
	load(q, row + head * D, w, q0, g.length);
	load(d, dout + (blockIdx.z * g.length * g.heads + head) * D, g.heads * D, q0, g.length);
	for (index_t k0 = starts[q0] / T * T; k0 <= q0; k0 += T) {
		__syncthreads();
		load(k, keys, w, k0, g.length), load(v, values, w, k0, g.length);
		__syncthreads();
		scores(nullptr, ds, q, k, d, v, lse + of_head, dots_out + of_head, starts, q0, k0, g);
		__syncthreads();
		multiply<false>(acc, ds, k);
	}
	int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
	for (int i = 0; i < R; i++)
#pragma unroll
		for (int c = 0; c < C; c++)
			if (q0 + ty + 16 * i < g.length && tx + 16 * c < D)
				st(dqkv + (blockIdx.z * g.length + q0 + ty + 16 * i) * w + head * D + tx + 16 * c, acc[i][c]);
}

// The gradients of keys and values: sums over the queries of all heads that share
// them, in order. Grid (tiles of keys, kv heads, batch). Shared memory: 4 [T][LD]
// and 2 [T][T+1].
extern "C" __global__ void __launch_bounds__(256) attention_grad_kv(DQKV *dqkv, const QKV *qkv, const DOUT *dout, const float *lse,
	const float *dots_out, const int *starts, StructHeads g) {
	extern __shared__ float memory[];
	float *q = memory, *k = q + T * LD, *v = k + T * LD, *d = v + T * LD, *ds = d + T * LD, *p = ds + T * (T + 1);
	index_t kv = blockIdx.y, k0 = (index_t)blockIdx.x * T, w = width(g), group = g.heads / g.kv_heads;
	const QKV *row = qkv + blockIdx.z * g.length * w, *keys = row + (g.heads + kv) * D, *values = keys + g.kv_heads * D;
	starts += blockIdx.z * g.length;
	float dk[R][C] = {}, dv[R][C] = {};
	load(k, keys, w, k0, g.length), load(v, values, w, k0, g.length);
	for (index_t head = kv * group; head < (kv + 1) * group; head++) {
		index_t of_head = (blockIdx.z * g.heads + head) * g.length;
		for (index_t q0 = k0; q0 < g.length && starts[q0] < k0 + T; q0 += T) {
			__syncthreads();
			load(q, row + head * D, w, q0, g.length);
			load(d, dout + (blockIdx.z * g.length * g.heads + head) * D, g.heads * D, q0, g.length);
			__syncthreads();
			scores(p, ds, q, k, d, v, lse + of_head, dots_out + of_head, starts, q0, k0, g);
			__syncthreads();
			multiply<true>(dv, p, d), multiply<true>(dk, ds, q);
		}
	}
	int ty = threadIdx.x / 16, tx = threadIdx.x % 16;
#pragma unroll
	for (int i = 0; i < R; i++)
#pragma unroll
		for (int c = 0; c < C; c++) {
			if (k0 + ty + 16 * i >= g.length || tx + 16 * c >= D) continue;
			DQKV *to = dqkv + (blockIdx.z * g.length + k0 + ty + 16 * i) * w + (g.heads + kv) * D + tx + 16 * c;
			st(to, dk[i][c]), st(to + g.kv_heads * D, dv[i][c]);
		}
}
