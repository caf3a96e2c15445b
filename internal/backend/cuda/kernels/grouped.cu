// Products of the rows of each expert with its own weights, which start at
// offsets[e] (model/op/grouped_matmul.go). How many rows an expert has only the
// device knows: there are as many blocks as any distribution needs, and each
// finds its tile.
//
// A tile of TM x TN sums is computed by 256 threads, 8 x 8 each, over steps of TK;
// the sum over k is never cut.

#define TM 128
#define TN 128
#define TK 16

// Operand of a product: element (i, k) of A, or (j, k) of B. `along` says whether
// neighbours in k are neighbours in memory.
template <typename T> struct Operand {
	const T *p;
	index_t ld, size; // elements between rows of memory, and how many i or j there are
	index_t depth;	  // how many k
};

// fetch loads the thread's 8 elements of a step, stage stores them as [TK][128].
template <bool along, typename T> inline void fetch(float (&r)[8], const Operand<T> &o, index_t i0, index_t k0) {
#pragma unroll
	for (int q = 0; q < 8; q++) {
		int at = threadIdx.x + q * 256;
		index_t i = i0 + (along ? at / TK : at % 128), k = k0 + (along ? at % TK : at / 128);
		r[q] = i < o.size && k < o.depth ? ld(o.p + (along ? i * o.ld + k : k * o.ld + i)) : 0.0f;
	}
}
template <bool along> inline void stage(float (*to)[128 + 4], const float (&r)[8]) {
#pragma unroll
	for (int q = 0; q < 8; q++) {
		int at = threadIdx.x + q * 256;
		to[along ? at % TK : at / 128][along ? at / TK : at % 128] = r[q];
	}
}

// product computes the tile at (i0, j0) of c = a b^T, or adds to it.
template <bool a_along, bool b_along, typename TA, typename TB, typename TC>
inline void product(TC *c, index_t ldc, const Operand<TA> &a, const Operand<TB> &b, index_t i0, index_t j0, bool accumulate) {
	__shared__ __align__(16) float as[TK][128 + 4], bs[TK][128 + 4];
	float sum[8][8] = {}, ra[8], rb[8];
	int ti = threadIdx.x / 16 * 4, tj = threadIdx.x % 16 * 4;
	fetch<a_along>(ra, a, i0, 0), fetch<b_along>(rb, b, j0, 0);
	for (index_t k0 = 0; k0 < a.depth; k0 += TK) {
		__syncthreads();
		stage<a_along>(as, ra), stage<b_along>(bs, rb);
		__syncthreads();
		if (k0 + TK < a.depth) fetch<a_along>(ra, a, i0, k0 + TK), fetch<b_along>(rb, b, j0, k0 + TK);
#pragma unroll
		for (int k = 0; k < TK; k++) {
			float u[8], v[8];
			*(float4 *)u = *(float4 *)&as[k][ti], *(float4 *)(u + 4) = *(float4 *)&as[k][ti + 64];
			*(float4 *)v = *(float4 *)&bs[k][tj], *(float4 *)(v + 4) = *(float4 *)&bs[k][tj + 64];
#pragma unroll
			for (int i = 0; i < 8; i++)
#pragma unroll
				for (int j = 0; j < 8; j++) sum[i][j] += u[i] * v[j];
		}
	}
#pragma unroll
	for (int i = 0; i < 8; i++)
#pragma unroll
		for (int j = 0; j < 8; j++) {
			index_t row = i0 + ti + i % 4 + i / 4 * 64, column = j0 + tj + j % 4 + j / 4 * 64;
			if (row >= a.size || column >= b.size) continue;
			TC *to = c + row * ldc + column;
			st(to, accumulate ? ld(to) + sum[i][j] : sum[i][j]);
		}
}

// expert_tile finds the expert of tile number `tile`, its rows and the first row
// of the tile among them; false beyond the last tile.
inline bool expert_tile(const int *offsets, index_t experts, index_t tile, index_t &e, index_t &from, index_t &rows, index_t &i0) {
	for (e = 0; e < experts; e++) {
		from = offsets[e], rows = offsets[e + 1] - from;
		index_t tiles = (rows + TM - 1) / TM;
		if (tile < tiles) {
			i0 = tile * TM;
			return true;
		}
		tile -= tiles;
	}
	return false;
}

// y[s, n] = x[s, k] w[e][n, k]^T. Grid (tiles of columns, tiles of rows).
extern "C" __global__ void __launch_bounds__(256) grouped(Y *y, const X *x, const W *w, const int *offsets, index_t experts, index_t n, index_t k) {
	index_t e, from, rows, i0;
	if (!expert_tile(offsets, experts, blockIdx.y, e, from, rows, i0)) return;
	product<true, true>(y + from * n, n, Operand<X>{x + from * k, k, rows, k}, Operand<W>{w + e * n * k, k, n, k}, i0, (index_t)blockIdx.x * TN,
		false);
}

// dx[s, k] = dy[s, n] w[e][n, k].
extern "C" __global__ void __launch_bounds__(256) grouped_dx(Y *dx, const X *dy, const W *w, const int *offsets, index_t experts, index_t n,
	index_t k) {
	index_t e, from, rows, i0;
	if (!expert_tile(offsets, experts, blockIdx.y, e, from, rows, i0)) return;
	product<true, false>(dx + from * k, k, Operand<X>{dy + from * n, n, rows, n}, Operand<W>{w + e * n * k, k, k, n}, i0,
		(index_t)blockIdx.x * TN, false);
}

// dw[e][n, k] = sum over rows of dy[s, n] x[s, k]. Grid (tiles of k, of n, experts).
extern "C" __global__ void __launch_bounds__(256) grouped_dw(Y *dw, const X *dy, const W *x, const int *offsets, index_t experts, index_t n,
	index_t k, index_t accumulate) {
	index_t e = blockIdx.z, from = offsets[e], rows = offsets[e + 1] - from;
	product<false, false>(dw + e * n * k, k, Operand<X>{dy + from * n, n, n, rows}, Operand<W>{x + from * k, k, k, rows}, (index_t)blockIdx.y * TM,
		(index_t)blockIdx.x * TN, accumulate != 0);
}
