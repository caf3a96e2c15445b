// Root-mean-square norms of rows (model/op/rms_norm.go). A block has one row.
#ifndef X
#define X float
#endif
#ifndef DELTA
#define DELTA float
#endif
#ifndef W
#define W float
#endif
#ifndef Y
#define Y float
#endif
#ifndef SUM
#define SUM float
#endif

// sum = x + delta, rstd = 1/sqrt(mean(sum^2) + eps), y = sum rstd w. delta, sum
// and rstd may be null; sum may be x or delta.
//
// Floor: bytes, 8 an element of float without a residual, 16 with.
extern "C" __global__ void rms_norm(Y *y, float *rstd, SUM *sum, const X *x, const DELTA *delta, const W *w, index_t h, float eps) {
	index_t at = (index_t)blockIdx.x * h;
	float squares = 0;
	for (index_t i = threadIdx.x * VEC; i < h; i += blockDim.x * VEC) {
		float v[VEC], d[VEC];
		ldv(v, x + at + i);
		if (delta) {
			ldv(d, delta + at + i);
			for (int j = 0; j < VEC; j++) v[j] = rounded(sum, v[j] + d[j]);
		}
		if (sum) stv(sum + at + i, v);
		for (int j = 0; j < VEC; j++) squares += v[j] * v[j];
	}
	float r = rsqrtf(block_sum(squares) / h + eps);
	if (rstd && threadIdx.x == 0) rstd[blockIdx.x] = r;
	for (index_t i = threadIdx.x * VEC; i < h; i += blockDim.x * VEC) {
		float v[VEC], d[VEC], u[VEC];
		if (sum) { // x may be gone
			ldv(v, sum + at + i);
		} else {
			ldv(v, x + at + i);
			if (delta) {
				ldv(d, delta + at + i);
				for (int j = 0; j < VEC; j++) v[j] = rounded(sum, v[j] + d[j]);
			}
		}
		ldv(u, w + i);
		for (int j = 0; j < VEC; j++) v[j] *= r * u[j];
		stv(y + at + i, v);
	}
}

#ifndef DY
#define DY float
#endif
#ifndef DSUM
#define DSUM float
#endif
#ifndef DX
#define DX float
#endif

// dx = r (w dy - x r^2 mean(x w dy)) + dsum, dw = sum over rows of dy x r. Each
// block has the rows of one part, and writes its sum for dw to parts[part, h].
// dsum, dx and parts may be null; dx may be dsum. Shared memory: h floats.
extern "C" __global__ void rms_norm_grad(DX *dx, float *parts, const X *x, const W *w, const float *rstd, const DY *dy,
	const DSUM *dsum, index_t rows, index_t each, index_t h) {
	extern __shared__ float dw[]; // each thread has columns of its own
	for (index_t i = threadIdx.x * VEC; i < h; i += blockDim.x * VEC)
		for (int j = 0; j < VEC; j++) dw[i + j] = 0;
	index_t first = (index_t)blockIdx.x * each, last = min(first + each, rows);
	for (index_t row = first; row < last; row++) {
		index_t at = row * h;
		float r = rstd[row], dot = 0;
		for (index_t i = threadIdx.x * VEC; i < h; i += blockDim.x * VEC) {
			float v[VEC], g[VEC], u[VEC];
			ldv(v, x + at + i), ldv(g, dy + at + i), ldv(u, w + i);
			for (int j = 0; j < VEC; j++) {
				dot += v[j] * u[j] * g[j];
				dw[i + j] += g[j] * v[j] * r;
			}
		}
		if (!dx) continue;
		float mean = block_sum(dot) * r * r / h;
		for (index_t i = threadIdx.x * VEC; i < h; i += blockDim.x * VEC) {
			float v[VEC], g[VEC], u[VEC];
			ldv(v, x + at + i), ldv(g, dy + at + i), ldv(u, w + i);
			for (int j = 0; j < VEC; j++) g[j] = r * (u[j] * g[j] - v[j] * mean);
			if (dsum) {
				ldv(v, dsum + at + i);
				for (int j = 0; j < VEC; j++) g[j] += v[j];
			}
			stv(dx + at + i, g);
		}
	}
	if (!parts) return;
	for (index_t i = threadIdx.x * VEC; i < h; i += blockDim.x * VEC)
		for (int j = 0; j < VEC; j++) parts[blockIdx.x * h + i + j] = dw[i + j];
}
