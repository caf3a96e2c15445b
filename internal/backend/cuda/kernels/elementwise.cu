// y = a + b. y may be a or b.
#ifndef A
#define A float
#endif
#ifndef B
#define B float
#endif

extern "C" __global__ void add(Y *y, const A *a, const B *b, index_t n) {
	index_t step = (index_t)gridDim.x * blockDim.x * VEC;
	for (index_t i = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC; i < n; i += step) {
		float u[VEC], v[VEC];
		ldv(u, a + i), ldv(v, b + i);
		for (int j = 0; j < VEC; j++) u[j] += v[j];
		stv(y + i, u);
	}
}

// y = x + b in every row of x[rows, n]. y may be x.
extern "C" __global__ void add_bias(Y *y, const A *x, const B *b, index_t rows, index_t n) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	for (index_t i = (index_t)threadIdx.x * VEC; i < n; i += blockDim.x * VEC) {
		float u[VEC], v[VEC];
		ldv(u, x + row * n + i), ldv(v, b + i);
		for (int j = 0; j < VEC; j++) u[j] += v[j];
		stv(y + row * n + i, u);
	}
}

// y = x in another type.
extern "C" __global__ void convert(Y *y, const A *x, index_t n) {
	index_t step = (index_t)gridDim.x * blockDim.x * VEC;
	for (index_t i = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC; i < n; i += step) {
		float v[VEC];
		ldv(v, x + i);
		stv(y + i, v);
	}
}

extern "C" __global__ void zero(Y *y, index_t n) {
	for (index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (index_t)gridDim.x * blockDim.x) st(y + i, 0.0f);
}
