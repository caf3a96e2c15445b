// Cutting rows into three parts, with a norm for each (model/op/split_norm.go).
// A warp has a part of a row.
//
// Floors, T 16384, 128 + 2 x 16 columns in bf16: 10 MB forward (0.003 ms), 15 MB backward
// (0.004 ms); a few operations an element. What it takes is the latency of its few rows.

struct StructParts {
	const void *w[3], *dy[3];
	void *y[3];
	index_t width[3];
};

// out[part] = p[:, part] w[part] rstd; without weights only the cut.
extern "C" __global__ void split_norm(StructParts s, float *rstd, const P *p, index_t rows, index_t norm, float eps) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	index_t at = row * (s.width[0] + s.width[1] + s.width[2]);
	for (int part = 0; part < 3; part++) {
		index_t n = s.width[part];
		const W *w = (const W *)s.w[part];
		Y *y = (Y *)s.y[part];
		float squares = 0, r = 1;
		if (norm) {
			for (index_t i = threadIdx.x; i < n; i += 32) {
				float v = ld(p + at + i);
				squares += v * v;
			}
			r = rsqrtf(warp_sum(squares) / n + eps);
			if (rstd && threadIdx.x == 0) rstd[row * 3 + part] = r;
		}
		if (y)
			for (index_t i = threadIdx.x; i < n; i += 32) st(y + row * n + i, ld(p + at + i) * r * (norm ? ld(w + i) : 1.0f));
		at += n;
	}
}

// dp and, for the rows of one part, dw: parts[block, R+2N]. Warp i of a block
// does part i of all its rows. Shared memory: R+2N floats.
extern "C" __global__ void split_norm_grad(StructParts s, DP *dp, float *parts, const P *p, const float *rstd, index_t rows, index_t each,
	index_t norm) {
	extern __shared__ float dw[];
	int part = threadIdx.y;
	index_t total = s.width[0] + s.width[1] + s.width[2], offset = 0, n = s.width[part];
	for (int i = 0; i < part; i++) offset += s.width[i];
	const W *w = (const W *)s.w[part];
	const DY *dy = (const DY *)s.dy[part];
	for (index_t i = threadIdx.x; i < n; i += 32) dw[offset + i] = 0;
	index_t first = (index_t)blockIdx.x * each, last = min(first + each, rows);
	for (index_t row = first; row < last; row++) {
		index_t at = row * total + offset;
		if (!norm) {
			for (index_t i = threadIdx.x; i < n; i += 32) st(dp + at + i, ld(dy + row * n + i));
			continue;
		}
		float r = rstd[row * 3 + part], dot = 0;
		for (index_t i = threadIdx.x; i < n; i += 32) {
			float v = ld(p + at + i), g = ld(dy + row * n + i);
			dot += v * ld(w + i) * g;
			dw[offset + i] += g * v * r;
		}
		float mean = warp_sum(dot) * r * r / n;
		for (index_t i = threadIdx.x; i < n; i += 32)
			st(dp + at + i, r * (ld(w + i) * ld(dy + row * n + i) - ld(p + at + i) * mean));
	}
	if (norm)
		for (index_t i = threadIdx.x; i < n; i += 32) parts[blockIdx.x * total + offset + i] = dw[offset + i];
}
