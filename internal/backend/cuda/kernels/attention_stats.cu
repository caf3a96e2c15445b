// stats[B, heads, tiles, 2, 64] of tiles of 64 queries, for attention_grad_hopper.cu:
// the log-sum-exp in powers of 2, and out . dout, of each query; zeros beyond the last.
// A row of D is read by D / 8 threads.
//
// Floor: bytes, 4 D a query and head.
extern "C" __global__ void attention_stats(float *stats, const bf16 *out, const bf16 *dout, const float *lse, index_t batch, index_t length,
	index_t heads) {
	const int lanes = D / 8, tile = 64;
	index_t tiles = (length + tile - 1) / tile, i = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) / lanes;
	int lane = threadIdx.x % lanes;
	index_t head = i % heads, t = i / heads % (tiles * tile), b = i / heads / (tiles * tile);
	bool there = b < batch && t < length;
	float sum = 0, x[8], y[8];
	if (there) {
		index_t at = ((b * length + t) * heads + head) * D + lane * 8;
		ldv<8>(x, out + at), ldv<8>(y, dout + at);
#pragma unroll
		for (int c = 0; c < 8; c++) sum += x[c] * y[c];
	}
#pragma unroll
	for (int o = lanes / 2; o > 0; o >>= 1) sum += __shfl_xor_sync(ALL_LANES, sum, o);
	if (lane > 0 || b >= batch) return;
	float *to = stats + ((b * heads + head) * tiles + t / tile) * 2 * tile + t % tile;
	to[0] = there ? lse[(b * heads + head) * length + t] * LOG2E : 0.0f;
	to[tile] = sum;
}
