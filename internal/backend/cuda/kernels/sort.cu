// A stable sort of n items by a key below `buckets`, in three launches: count the
// keys of each block of TILE items, add the counts up, place the items. The sort
// of experts is one such pass; tokens are sorted by up to 9 bits of their id a pass.

#define TILE 1024
#define THREADS 256
#define ROUNDS (TILE / THREADS) // items of a thread
#define AHEAD 8                 // loads in flight: one after the other they take longer than all the rest

// key_of is the key of item i: bits of keys[i], or of keys[items[i]].
inline int key_of(const int *keys, const int *items, index_t i, index_t limit, index_t shift, index_t buckets) {
	unsigned key = keys[items ? items[i] : i];
	if (key >= limit) key = limit - 1; // reported where it matters
	return (key >> shift) % (unsigned)buckets;
}

// keys_of gives the keys of a thread's items, -1 beyond the last.
inline void keys_of(int (&key)[ROUNDS], const int *keys, const int *items, index_t n, index_t limit, index_t shift, index_t buckets) {
#pragma unroll
	for (int r = 0; r < ROUNDS; r++) {
		index_t i = (index_t)blockIdx.x * TILE + r * THREADS + threadIdx.x;
		key[r] = i < n ? key_of(keys, items, i, limit, shift, buckets) : -1;
	}
}

// counts[block, buckets]. Shared memory: buckets ints. Adding integers is exact in
// any order.
extern "C" __global__ void sort_count(int *counts, word_t *faults, const int *keys, const int *items, index_t n, index_t limit, index_t shift,
	index_t buckets) {
	extern __shared__ int count[];
	int key[ROUNDS];
	keys_of(key, keys, items, n, limit, shift, buckets);
	for (int b = threadIdx.x; b < buckets; b += THREADS) count[b] = 0;
	__syncthreads();
#pragma unroll
	for (int r = 0; r < ROUNDS; r++) {
		index_t i = (index_t)blockIdx.x * TILE + r * THREADS + threadIdx.x;
		if (faults && i < n && (unsigned)keys[i] >= limit) report(faults, FAULT_EXPERT, i, keys[i]);
		if (key[r] >= 0) atomicAdd(&count[key[r]], 1);
	}
	__syncthreads();
	for (int b = threadIdx.x; b < buckets; b += THREADS) counts[blockIdx.x * buckets + b] = count[b];
}

// offsets[buckets + 1], and counts[block, bucket] = first place of its items. One
// block. Shared memory: buckets + 1 ints.
extern "C" __global__ void sort_scan(int *offsets, int *counts, index_t blocks, index_t buckets) {
	extern __shared__ int offset[];
	for (int b = threadIdx.x; b < buckets; b += blockDim.x) {
		int sum = 0;
#pragma unroll AHEAD
		for (index_t i = 0; i < blocks; i++) sum += counts[i * buckets + b];
		offset[b] = sum;
	}
	__syncthreads();
	if (threadIdx.x < 32) { // a lane adds up neighbours, then what the lanes before it have
		int each = (int)(buckets + 31) / 32, first = threadIdx.x * each, last = min(first + each, (int)buckets), sum = 0;
		for (int b = first; b < last; b++) sum += offset[b];
		int before = sum;
		for (int o = 1; o < 32; o <<= 1) {
			int n = __shfl_up_sync(ALL_LANES, before, o);
			if (threadIdx.x >= o) before += n;
		}
		if (threadIdx.x == 31) offset[buckets] = before;
		before -= sum;
		for (int b = first; b < last; b++) {
			int n = offset[b];
			offset[b] = before;
			before += n;
		}
	}
	__syncthreads();
	for (int b = threadIdx.x; b < buckets; b += blockDim.x) {
		int sum = offset[b], n[AHEAD];
		for (index_t from = 0; from < blocks; from += AHEAD) {
#pragma unroll
			for (int i = 0; i < AHEAD; i++) n[i] = from + i < blocks ? counts[(from + i) * buckets + b] : 0;
#pragma unroll
			for (int i = 0; i < AHEAD; i++) {
				if (from + i < blocks) counts[(from + i) * buckets + b] = sum;
				sum += n[i];
			}
		}
	}
	for (int b = threadIdx.x; offsets && b <= buckets; b += blockDim.x) offsets[b] = offset[b];
}

// sorted[place] = item and slot[i] = place; either may be null. Shared memory:
// (THREADS / 32 + 1) * buckets ints.
extern "C" __global__ void sort_place(int *sorted, int *slot, const int *counts, const int *keys, const int *items, index_t n, index_t limit,
	index_t shift, index_t buckets) {
	extern __shared__ int next[]; // place of the next item of each bucket, then counts of each warp
	int *of_warp = next + buckets;
	int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
	int all[ROUNDS];
	keys_of(all, keys, items, n, limit, shift, buckets);
	for (int b = threadIdx.x; b < buckets; b += THREADS) next[b] = counts[blockIdx.x * buckets + b];
#pragma unroll
	for (int round = 0; round < ROUNDS; round++) {
		index_t i = (index_t)blockIdx.x * TILE + round * THREADS + threadIdx.x;
		int key = all[round];
		bool there = i < n;
		__syncthreads();
		for (int b = threadIdx.x; b < (THREADS / 32) * buckets; b += THREADS) of_warp[b] = 0;
		__syncthreads();
		unsigned same = __match_any_sync(ALL_LANES, key);
		int rank = __popc(same & ((1u << lane) - 1));
		if (there && rank == 0) of_warp[warp * buckets + key] = __popc(same);
		__syncthreads();
		if (there) {
			int place = next[key] + rank;
			for (int w = 0; w < warp; w++) place += of_warp[w * buckets + key];
			if (sorted) sorted[place] = items ? items[i] : (int)i;
			if (slot) slot[i] = place;
		}
		__syncthreads();
		for (int b = threadIdx.x; b < buckets; b += THREADS)
			for (int w = 0; w < THREADS / 32; w++) next[b] += of_warp[w * buckets + b];
	}
}
