// Documents as intervals: starts[t] is the first position, within the row, of the
// document of position t, ends[t] one past its last. A block of 1024 threads has a
// row.

// scan gives each thread the largest v of the threads up to its own and of `before`,
// which becomes the largest of all.
inline int scan(int v, int &before) {
	__shared__ int top[32];
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
	for (int o = 1; o < 32; o <<= 1) {
		int u = __shfl_up_sync(ALL_LANES, v, o);
		if (lane >= o) v = max(v, u);
	}
	__syncthreads();
	if (lane == 31) top[warp] = v;
	__syncthreads();
	int all = before;
	v = max(v, before);
	for (int w = 0; w < 32; w++) {
		if (w < warp) v = max(v, top[w]);
		all = max(all, top[w]);
	}
	before = all;
	return v;
}

// `next`, which may be null, are counters of tiles to be cleared.
extern "C" __global__ void document_starts(int *starts, int *next, const int *docs, index_t length) {
	docs += blockIdx.x * length, starts += blockIdx.x * length;
	if (next && blockIdx.x == 0 && threadIdx.x < 2) next[threadIdx.x] = 0;
	int before = 0;
	for (index_t from = 0; from < length; from += 1024) {
		index_t t = from + threadIdx.x;
		int v = scan(t > 0 && t < length && docs[t] != docs[t - 1] ? (int)t : 0, before);
		if (t < length) starts[t] = v;
	}
}

extern "C" __global__ void document_ends(int *ends, const int *docs, index_t length) {
	docs += blockIdx.x * length, ends += blockIdx.x * length;
	int before = -(int)length;
	for (index_t from = 0; from < length; from += 1024) {
		index_t t = length - 1 - from - threadIdx.x;
		int v = scan(t >= 0 && t + 1 < length && docs[t] != docs[t + 1] ? -(int)(t + 1) : -(int)length, before);
		if (t >= 0) ends[t] = -v;
	}
}
