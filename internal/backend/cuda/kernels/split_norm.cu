// Cutting rows into three parts, of R, S and S columns, with a norm for each
// (model/op/split_norm.go). LANES threads of a warp have a row, one of them every
// LANES-th group of VEC columns; a group lies in one part.
//
// Floors, T 16384, 128 + 2 x 16 columns in bf16: 10 MB forward (0.003 ms), 15 MB backward
// (0.004 ms). A row is short: with a warp a row, the instructions that move no column, for
// addresses and sums between lanes, took twice as long as memory.

#define TOTAL (R + 2 * S)
#define GROUPS (TOTAL / VEC)
#define EACH ((GROUPS + LANES - 1) / LANES) // groups of a lane
#define ROWS (32 / LANES)                   // rows of a warp at a time

struct StructParts {
	const void *w[3], *dy[3];
	void *y[3];
};

// Group is VEC columns of a row, and of their part.
struct Group {
	bool there;
	int column, part, width, at;

	Group(int i) {
		there = i < GROUPS, column = there ? i * VEC : 0, part = column < R ? 0 : column < R + S ? 1 : 2;
		width = part ? S : R, at = column - (part ? R + (part - 1) * S : 0);
	}
};
inline int lane() { return threadIdx.x % LANES; }
inline Group group(int j) { return Group(lane() + LANES * j); }

// of chooses what belongs to a group's part.
template <typename T> inline T of(const Group &c, const T (&v)[3]) { return c.part == 0 ? v[0] : c.part == 1 ? v[1] : v[2]; }
inline void add(float (&v)[3], const Group &c, float x) {
#pragma unroll
	for (int part = 0; part < 3; part++) v[part] += c.part == part ? x : 0.0f;
}

// read gives a group's values, zeros beyond the last.
template <typename T> inline void read(float (&v)[VEC], const Group &c, const T *p) {
#pragma unroll
	for (int i = 0; i < VEC; i++) v[i] = 0;
	if (c.there) ldv(v, p);
}

// row_sum adds up over the lanes of a row.
inline float row_sum(float v) {
#pragma unroll
	for (int o = LANES / 2; o > 0; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
	return v;
}

inline void weights_of(float (&w)[EACH][VEC], const StructParts &s) {
#pragma unroll
	for (int j = 0; j < EACH; j++) {
		Group c = group(j);
#pragma unroll
		for (int i = 0; i < VEC; i++) w[j][i] = 1;
		if (NORM) read(w[j], c, (const W *)of(c, s.w) + c.at);
	}
}

// out[part] = p[:, part] w[part] rstd; without weights only the cut. y may be null.
extern "C" __global__ void split_norm(StructParts s, float *rstd, const P *p, index_t rows, float eps) {
	index_t row = ((index_t)blockIdx.x * blockDim.x + threadIdx.x) / LANES;
	bool there = row < rows; // a warp's lanes stay together
	row = there ? row : 0;
	float w[EACH][VEC], v[EACH][VEC], squares[3] = {}, r[3] = {1, 1, 1};
#pragma unroll
	for (int j = 0; j < EACH; j++) {
		Group c = group(j);
		read(v[j], c, p + row * TOTAL + c.column);
	}
	weights_of(w, s);
#pragma unroll
	for (int j = 0; j < EACH; j++) {
		float sum = 0;
#pragma unroll
		for (int i = 0; i < VEC; i++) sum += v[j][i] * v[j][i];
		add(squares, group(j), sum);
	}
#pragma unroll
	for (int part = 0; part < 3 && NORM; part++) {
		r[part] = rsqrtf(row_sum(squares[part]) * (1.0f / (part ? S : R)) + eps);
		if (rstd && there && lane() == part) rstd[row * 3 + part] = r[part];
	}
#pragma unroll
	for (int j = 0; j < EACH; j++) {
		Group c = group(j);
#pragma unroll
		for (int i = 0; i < VEC; i++) v[j][i] *= of(c, r) * w[j][i];
		if (there && c.there && of(c, s.y)) stv((Y *)of(c, s.y) + row * c.width + c.at, v[j]);
	}
}

// dp and, of the rows of a block, `each`, the sums for dw: parts[block, TOTAL]. The
// block's warps take its rows in turn.
extern "C" __global__ void __launch_bounds__(WARPS * 32) split_norm_grad(StructParts s, DP *dp, float *parts, const P *p, const float *rstd, index_t rows,
	index_t each) {
	__shared__ alignas(16) float sums[WARPS * ROWS][GROUPS * VEC];
	int mine = threadIdx.x / LANES;
	index_t first = (index_t)blockIdx.x * each, last = min(first + each, rows);
	float w[EACH][VEC], dw[EACH][VEC] = {};
	weights_of(w, s);
	for (index_t from = first; from < last; from += WARPS * ROWS) {
		bool there = from + mine < last; // a warp's lanes stay together
		index_t row = there ? from + mine : first;
		float v[EACH][VEC], g[EACH][VEC], dot[3] = {}, r[3] = {}, mean[3];
#pragma unroll
		for (int j = 0; j < EACH; j++) {
			Group c = group(j);
			read(g[j], c, (const DY *)of(c, s.dy) + row * c.width + c.at);
			if (NORM) read(v[j], c, p + row * TOTAL + c.column);
		}
#pragma unroll
		for (int part = 0; part < 3 && NORM; part++) r[part] = rstd[row * 3 + part];
#pragma unroll
		for (int j = 0; j < EACH && NORM; j++) {
			Group c = group(j);
			float scale = there ? of(c, r) : 0.0f, sum = 0;
#pragma unroll
			for (int i = 0; i < VEC; i++) dw[j][i] += g[j][i] * v[j][i] * scale, g[j][i] *= w[j][i], sum += v[j][i] * g[j][i];
			add(dot, c, sum);
		}
#pragma unroll
		for (int part = 0; part < 3 && NORM; part++) mean[part] = row_sum(dot[part]) * r[part] * r[part] * (1.0f / (part ? S : R));
#pragma unroll
		for (int j = 0; j < EACH; j++) {
			Group c = group(j);
			float scale = NORM ? of(c, r) : 1.0f, m = NORM ? of(c, mean) : 0.0f;
#pragma unroll
			for (int i = 0; i < VEC && NORM; i++) g[j][i] = scale * (g[j][i] - v[j][i] * m);
			if (there && c.there) stv(dp + row * TOTAL + c.column, g[j]);
		}
	}
	if (!NORM) return;
#pragma unroll
	for (int j = 0; j < EACH; j++)
		if (group(j).there) stv(&sums[mine][group(j).column], dw[j]);
	__syncthreads();
	for (int i = threadIdx.x; i < TOTAL; i += WARPS * 32) {
		float sum = 0;
#pragma unroll
		for (int k = 0; k < WARPS * ROWS; k++) sum += sums[k][i];
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
	Group c(i / VEC);
	if (threadIdx.y > 0 || !c.there || !of(c, s.y)) return;
	for (int k = 1; k < 32; k++) sum += sums[k][threadIdx.x];
	st((Y *)of(c, s.y) + c.at + i % VEC, sum);
}
