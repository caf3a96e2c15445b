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

// Raw is what a thread reads of a row, as it is stored.
template <typename T> struct alignas(sizeof(T) * VEC) Raw {
	T v[VEC];
};
template <typename T> inline Raw<T> raw_at(const T *p) { return *(const Raw<T> *)p; }

// dx = r (w dy - x r^2 mean(x w dy)) + dsum, dw = sum over rows of dy x r. Each
// block has the rows of one part, and writes its sum for dw to parts[part, h]; a
// thread has ITEMS vectors of a row, and reads those of the next row while the
// block sums this one. dsum, dx and parts may be null; dx may be dsum.
//
// Floor: bytes, 12 an element of float, 16 with dsum.
extern "C" __global__ void rms_norm_grad(DX *dx, float *parts, const X *x, const W *w, const float *rstd, const DY *dy,
	const DSUM *dsum, index_t rows, index_t each, index_t h) {
	index_t first = (index_t)blockIdx.x * each, last = min(first + each, rows);
	float dw[ITEMS][VEC] = {}, r = rstd[first];
	Raw<X> xs[ITEMS];
	Raw<DY> dys[ITEMS];
	Raw<DSUM> dsums[ITEMS];
	auto column = [&](int k) { return ((index_t)k * blockDim.x + threadIdx.x) * VEC; };
	auto read = [&](index_t row) {
#pragma unroll
		for (int k = 0; k < ITEMS; k++) {
			index_t at = row * h + column(k);
			if (column(k) >= h) continue;
			xs[k] = raw_at(x + at), dys[k] = raw_at(dy + at);
			if (dsum) dsums[k] = raw_at(dsum + at);
		}
	};
	read(first);
	for (index_t row = first; row < last; row++) {
		float v[ITEMS][VEC], g[ITEMS][VEC], sum[ITEMS][VEC] = {}, dot = 0;
#pragma unroll
		for (int k = 0; k < ITEMS; k++) {
			if (column(k) >= h) continue;
			float u[VEC];
			ldv(v[k], xs[k].v), ldv(g[k], dys[k].v), ldv(u, w + column(k));
			if (dsum) ldv(sum[k], dsums[k].v);
#pragma unroll
			for (int j = 0; j < VEC; j++) {
				dw[k][j] += g[k][j] * v[k][j] * r;
				g[k][j] *= u[j];
				dot += v[k][j] * g[k][j];
			}
		}
		float scale = r;
		index_t next = min(row + 1, last - 1);
		read(next), r = rstd[next];
		if (!dx) continue;
		float mean = block_sum(dot) * scale * scale / h;
#pragma unroll
		for (int k = 0; k < ITEMS; k++) {
			if (column(k) >= h) continue;
#pragma unroll
			for (int j = 0; j < VEC; j++) sum[k][j] += scale * (g[k][j] - v[k][j] * mean);
			stv(dx + row * h + column(k), sum[k]);
		}
	}
#pragma unroll
	for (int k = 0; k < ITEMS; k++)
		if (parts && column(k) < h) stv(parts + blockIdx.x * h + column(k), dw[k]);
}
