// starts[t] = the first position, within the row, of the document of position t.
// A block of 1024 threads has a row.
extern "C" __global__ void document_starts(int *starts, const int *docs, index_t length) {
	__shared__ int top[32];
	docs += blockIdx.x * length, starts += blockIdx.x * length;
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, before = 0;
	for (index_t from = 0; from < length; from += 1024) {
		index_t t = from + threadIdx.x;
		int v = t > 0 && t < length && docs[t] != docs[t - 1] ? (int)t : 0;
		for (int o = 1; o < 32; o <<= 1) {
			int u = __shfl_up_sync(ALL_LANES, v, o);
			if (lane >= o) v = max(v, u);
		}
		__syncthreads();
		if (lane == 31) top[warp] = v;
		__syncthreads();
		int all = before;
		for (int w = 0; w < 32; w++) {
			if (w < warp) v = max(v, top[w]);
			all = max(all, top[w]);
		}
		if (t < length) starts[t] = max(v, before);
		before = all;
	}
}
