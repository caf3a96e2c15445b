// Attention over a cache of earlier positions (model/op/attention_cached.go).

struct StructCache {
	index_t length, heads, kv_heads, capacity;
	float scale;
};

inline bool in_cache(word_t *faults, const int *pos, const StructCache &g) {
	if (*pos >= 0 && *pos + g.length <= g.capacity) return true;
	if (faults && threadIdx.x == 0) report(faults, FAULT_POSITION, g.length, *pos);
	return false;
}

// The keys and values of the new positions go into the caches [B, capacity,
// kv_heads D]. Grid (length, batch).
extern "C" __global__ void cache_store(CACHE *keys, CACHE *values, word_t *faults, const QKV *qkv, const int *pos, StructCache g) {
	if (!in_cache(faults, pos, g)) return;
	index_t kw = g.kv_heads * D, t = blockIdx.x, b = blockIdx.y;
	const QKV *from = qkv + (b * g.length + t) * (g.heads * D + 2 * kw) + g.heads * D;
	index_t to = (b * g.capacity + *pos + t) * kw;
	for (index_t i = threadIdx.x; i < kw; i += blockDim.x) st(keys + to + i, ld(from + i)), st(values + to + i, ld(from + kw + i));
}

#define WARPS 8
#define C ((D + 31) / 32) // columns of a head a lane has

// A block has a query; its warps take keys in turns, and their sums are joined in
// order. Grid (length, heads, batch).
extern "C" __global__ void __launch_bounds__(32 * WARPS) attention_cached(OUT *out, const QKV *qkv, const CACHE *keys, const CACHE *values,
	const int *pos, StructCache g) {
	if (!in_cache(nullptr, pos, g)) return;
	__shared__ float tops[WARPS], sums[WARPS], accs[WARPS][C * 32];
	index_t kw = g.kv_heads * D, t = blockIdx.x, head = blockIdx.y, b = blockIdx.z, row = b * g.length + t;
	index_t cache = b * g.capacity * kw + head / (g.heads / g.kv_heads) * D;
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
	float q[C], acc[C] = {}, top = -INFINITY, sum = 0;
#pragma unroll
	for (int c = 0; c < C; c++) q[c] = lane + 32 * c < D ? ld(qkv + row * (g.heads * D + 2 * kw) + head * D + lane + 32 * c) : 0.0f;
	for (index_t key = warp; key <= *pos + t; key += WARPS) {
		float s = 0;
#pragma unroll
		for (int c = 0; c < C; c++)
			if (lane + 32 * c < D) s += q[c] * ld(keys + cache + key * kw + lane + 32 * c);
		s = warp_sum(s) * g.scale;
		float m = fmaxf(top, s), keep = expf(top - m), e = expf(s - m);
		sum = sum * keep + e, top = m;
#pragma unroll
		for (int c = 0; c < C; c++)
			if (lane + 32 * c < D) acc[c] = acc[c] * keep + e * ld(values + cache + key * kw + lane + 32 * c);
	}
	if (lane == 0) tops[warp] = top, sums[warp] = sum;
#pragma unroll
	for (int c = 0; c < C; c++) accs[warp][lane + 32 * c] = acc[c];
	__syncthreads();
	float m = -INFINITY, total = 0;
	for (int w = 0; w < WARPS; w++) m = fmaxf(m, tops[w]);
	for (int w = 0; w < WARPS; w++) total += sums[w] * expf(tops[w] - m);
	for (int i = threadIdx.x; i < D; i += 32 * WARPS) {
		float x = 0;
		for (int w = 0; w < WARPS; w++) x += accs[w][i] * expf(tops[w] - m);
		st(out + (row * g.heads + head) * D + i, x / total);
	}
}
