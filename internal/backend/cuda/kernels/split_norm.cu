// Cutting rows into three parts, of R, S and S columns, with a norm for each
// (model/op/split_norm.go). A warp has a row, a lane every 32nd column of it.
//
// Floors, T 16384, 128 + 2 x 16 columns in bf16: 10 MB forward (0.003 ms), 15 MB backward
// (0.004 ms); a few operations an element. What it takes is the latency of its few rows
// and of the launches.

#define TOTAL (R + 2 * S)
#define EACH ((TOTAL + 31) / 32) // columns of a lane

struct StructParts {
	const void *w[3], *dy[3];
	void *y[3];
};

// Column is a column of a row, and in its part.
struct Column {
	bool there;
	int part, width, at;

	Column(int i) {
		there = i < TOTAL, part = i < R ? 0 : i < R + S ? 1 : 2;
		width = part ? S : R, at = i - (part ? R + (part - 1) * S : 0);
	}
};
inline Column column(int j) { return Column((threadIdx.x & 31) + 32 * j); }

// of chooses what belongs to a column's part.
template <typename T> inline T of(const Column &c, const T (&v)[3]) { return c.part == 0 ? v[0] : c.part == 1 ? v[1] : v[2]; }
inline void add(float (&v)[3], const Column &c, float x) {
#pragma unroll
	for (int part = 0; part < 3; part++) v[part] += c.part == part ? x : 0.0f;
}

inline void weights_of(float (&w)[EACH], const StructParts &s) {
#pragma unroll
	for (int j = 0; j < EACH; j++) {
		Column c = column(j);
		w[j] = NORM && c.there ? ld((const W *)of(c, s.w) + c.at) : 1.0f;
	}
}

// out[part] = p[:, part] w[part] rstd; without weights only the cut. y may be null.
extern "C" __global__ void split_norm(StructParts s, float *rstd, const P *p, index_t rows, float eps) {
	index_t row = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) / 32;
	if (row >= rows) return;
	float w[EACH], v[EACH], squares[3] = {}, r[3] = {1, 1, 1};
#pragma unroll
	for (int j = 0; j < EACH; j++) {
		Column c = column(j);
		v[j] = c.there ? ld(p + row * TOTAL + (threadIdx.x & 31) + 32 * j) : 0.0f;
		add(squares, c, v[j] * v[j]);
	}
	weights_of(w, s);
#pragma unroll
	for (int part = 0; part < 3 && NORM; part++) {
		r[part] = rsqrtf(warp_sum(squares[part]) / (part ? S : R) + eps);
		if (rstd && (threadIdx.x & 31) == part) rstd[row * 3 + part] = r[part];
	}
#pragma unroll
	for (int j = 0; j < EACH; j++) {
		Column c = column(j);
		if (c.there && of(c, s.y)) st((Y *)of(c, s.y) + row * c.width + c.at, v[j] * of(c, r) * w[j]);
	}
}

// dp and, of the rows of a block, `each`, the sums for dw: parts[block, TOTAL]. The
// block's warps take its rows in turn.
extern "C" __global__ void __launch_bounds__(WARPS * 32) split_norm_grad(StructParts s, DP *dp, float *parts, const P *p, const float *rstd, index_t rows,
	index_t each) {
	__shared__ float sums[WARPS][EACH * 32];
	int lane = threadIdx.x & 31, warp = threadIdx.x / 32;
	index_t first = (index_t)blockIdx.x * each, last = min(first + each, rows);
	float w[EACH], dw[EACH] = {};
	weights_of(w, s);
#pragma unroll 2
	for (index_t row = first + warp; row < last; row += WARPS) {
		float v[EACH], g[EACH], dot[3] = {}, r[3] = {}, mean[3];
#pragma unroll
		for (int j = 0; j < EACH; j++) {
			Column c = column(j);
			g[j] = c.there ? ld((const DY *)of(c, s.dy) + row * c.width + c.at) : 0.0f;
			v[j] = NORM && c.there ? ld(p + row * TOTAL + lane + 32 * j) : 0.0f;
		}
#pragma unroll
		for (int part = 0; part < 3 && NORM; part++) r[part] = rstd[row * 3 + part];
#pragma unroll
		for (int j = 0; j < EACH; j++) {
			Column c = column(j);
			dw[j] += g[j] * v[j] * of(c, r);
			add(dot, c, v[j] * w[j] * g[j]);
		}
#pragma unroll
		for (int part = 0; part < 3; part++) mean[part] = warp_sum(dot[part]) * r[part] * r[part] / (part ? S : R);
#pragma unroll
		for (int j = 0; j < EACH; j++) {
			Column c = column(j);
			if (c.there) st(dp + row * TOTAL + lane + 32 * j, NORM ? of(c, r) * (w[j] * g[j] - v[j] * of(c, mean)) : g[j]);
		}
	}
	if (!NORM) return;
#pragma unroll
	for (int j = 0; j < EACH; j++) sums[warp][lane + 32 * j] = dw[j];
	__syncthreads();
	for (int i = threadIdx.x; i < TOTAL; i += WARPS * 32) {
		float sum = 0;
#pragma unroll
		for (int k = 0; k < WARPS; k++) sum += sums[k][i];
		parts[blockIdx.x * (index_t)TOTAL + i] = sum;
	}
}

// dw[part] = the sum of `count` parts. A block has 32 columns and 32 rows of threads. An
// output may be null.
extern "C" __global__ void split_norm_sum(StructParts s, const float *parts, index_t count) {
	__shared__ float sums[32][33];
	int i = blockIdx.x * 32 + threadIdx.x;
	float sum = 0;
#pragma unroll 8
	for (index_t k = threadIdx.y; k < count && i < TOTAL; k += 32) sum += parts[k * TOTAL + i];
	sums[threadIdx.y][threadIdx.x] = sum;
	__syncthreads();
	Column c(i);
	if (threadIdx.y > 0 || !c.there || !of(c, s.y)) return;
	for (int k = 1; k < 32; k++) sum += sums[k][threadIdx.x];
	st((Y *)of(c, s.y) + c.at, sum);
}
