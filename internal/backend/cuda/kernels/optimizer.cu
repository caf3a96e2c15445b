// parts[b] = sum of squares of block b's elements of g[n]. Floor: bytes, 2 an element of
// bf16.
#ifndef G
#define G float
#endif
#ifndef NARROW
#define NARROW float
#endif

extern "C" __global__ void square_parts(double *parts, const G *g, index_t n) {
	double sum = 0;
	index_t step = (index_t)gridDim.x * blockDim.x * VEC;
	for (index_t i = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC; i < n; i += step) {
		float v[VEC];
		ldv(v, g + i);
		for (int j = 0; j < VEC; j++) sum += (double)v[j] * v[j];
	}
	sum = block_sum(sum);
	if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

// sum[0] = sum of parts[n]. One block.
extern "C" __global__ void square_total(float *sum, const double *parts, index_t n) {
	double s = 0;
	for (index_t i = threadIdx.x; i < n; i += blockDim.x) s += parts[i];
	s = block_sum(s);
	if (threadIdx.x == 0) *sum = (float)s;
}

// One step of AdamW (model/op/adamw.go). A gradient that is not finite, or
// hyper[3] = 0, changes nothing. narrow, which may be null, gets the new weights too.
//
// Floor: bytes, 28 an element with g in bf16 and narrow in bf16 (p, m, v read and
// written, g read, narrow written): 0.0068 ms a million elements at 4.1 TB/s.
extern "C" __global__ void adamw(float *p, float *m, float *v, NARROW *narrow, const G *g, const float *sumsq, const float *hyper, index_t n,
	float beta1, float beta2, float eps, float decay, float clip) {
	float norm = sqrtf(*sumsq);
	if (!isfinite(norm) || hyper[3] == 0) return;
	float scale = clip > 0 ? fminf(1.0f, clip / (norm + 1e-6f)) : 1.0f;
	float keep = 1.0f - hyper[0] * decay, rate = hyper[0] / hyper[1], correction = 1.0f / sqrtf(hyper[2]);
	index_t step = (index_t)gridDim.x * blockDim.x * VEC;
	for (index_t i = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) * VEC; i < n; i += step) {
		float pi[VEC], mi[VEC], vi[VEC], gi[VEC];
		ldv(pi, p + i), ldv(mi, m + i), ldv(vi, v + i), ldv(gi, g + i);
		for (int j = 0; j < VEC; j++) {
			float x = gi[j] * scale;
			mi[j] = beta1 * mi[j] + (1.0f - beta1) * x;
			vi[j] = beta2 * vi[j] + (1.0f - beta2) * x * x;
			pi[j] = pi[j] * keep - rate * mi[j] / (sqrtf(vi[j]) * correction + eps);
		}
		stv(p + i, pi), stv(m + i, mi), stv(v + i, vi);
		if (narrow) stv(narrow + i, pi);
	}
}
