// What an expert takes of a sequence (model/op/expert_capacity.go). A warp has one expert
// of one sequence and goes through its choices in order, 32 positions at a time. Each
// choice is written by the warp of its expert alone.
//
// Floors, 8 sequences of 2048, 8 experts, 2 of a token: every warp reads the 16 KB of its
// sequence's choices, 1 MB in all; the 128 steps of a warp one after the other bound it.

extern "C" __global__ void expert_capacity(float *limited, float *drops, const float *weights, const int *index, const int *docs, index_t batch,
	index_t length, index_t k, index_t experts, index_t capacity) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= batch * experts) return; // of a whole warp
	index_t first = row / experts * length, taken = 0;
	int expert = row % experts;
	for (index_t j = 0; j < k; j++) {
		for (index_t from = 0; from < length; from += 32) {
			index_t t = first + from + threadIdx.x, at = t * k + j;
			bool mine = from + threadIdx.x < length && index[at] == expert;
			bool counts = mine && docs[t] >= 0;
			unsigned all = __ballot_sync(ALL_LANES, counts);
			index_t before = taken + __popc(all & ((1u << threadIdx.x) - 1));
			if (mine) limited[at] = counts && before >= capacity ? 0.0f : weights[at];
			taken += __popc(all);
		}
	}
	if (threadIdx.x == 0) drops[row] = taken > capacity ? taken - capacity : 0;
}
