#ifndef OUT
#define OUT float
#endif
#ifndef X
#define X float
#endif

// parts[p, n] = sum over the rows r of part p, [p each, (p+1) each), of x[r, n].
// A block has 32 columns and 8 rows of threads.
extern "C" __global__ void column_parts(float *parts, const X *x, index_t rows, index_t each, index_t n) {
	__shared__ float sum[8][33];
	index_t c = (index_t)blockIdx.x * 32 + threadIdx.x, first = (index_t)blockIdx.y * each;
	index_t last = min(first + each, rows);
	float s = 0;
	if (c < n)
		for (index_t r = first + threadIdx.y; r < last; r += 8) s += ld(x + r * n + c);
	sum[threadIdx.y][threadIdx.x] = s;
	__syncthreads();
	if (threadIdx.y > 0 || c >= n) return;
	for (int y = 1; y < 8; y++) s += sum[y][threadIdx.x];
	parts[blockIdx.y * n + c] = s;
}

// out[i] = sum over p of parts[p * stride + i], the first of which is parts. A block
// has 32 columns and up to 32 rows of threads.
extern "C" __global__ void sum_parts(OUT *out, const float *parts, index_t count, index_t stride, index_t n) {
	__shared__ float sum[32][33];
	index_t i = (index_t)blockIdx.x * 32 + threadIdx.x;
	float s = 0;
	if (i < n)
#pragma unroll 8
		for (index_t p = threadIdx.y; p < count; p += blockDim.y) s += parts[p * stride + i];
	sum[threadIdx.y][threadIdx.x] = s;
	__syncthreads();
	if (threadIdx.y > 0 || i >= n) return;
	for (int y = 1; y < blockDim.y; y++) s += sum[y][threadIdx.x];
	st(out + i, s);
}

// total[0] = sum of x[n] in double. One block.
extern "C" __global__ void total(float *sum, const float *x, index_t n) {
	double s = 0;
	for (index_t i = threadIdx.x; i < n; i += blockDim.x) s += x[i];
	s = block_sum(s);
	if (threadIdx.x == 0) *sum = (float)s;
}
