// Rows of a table by token (model/op/embedding.go).
//
// Floors, T 16384, vocabulary 65536, H 2048 in bf16: 134 MB to look up (0.033 ms at
// 4.1 TB/s), 336 MB for the gradient, most of it zeros (0.082 ms); an addition an element.

extern "C" __global__ void embedding(Y *y, word_t *faults, const W *table, const int *ids, index_t rows, index_t vocab, index_t h) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	index_t id = ids[row];
	if (id < 0 || id >= vocab) {
		if (threadIdx.x == 0) report(faults, FAULT_TOKEN, row, (int)id);
		id = 0;
	}
	for (index_t i = (index_t)threadIdx.x * VEC; i < h; i += blockDim.x * VEC) {
		float v[VEC];
		ldv(v, table + id * h + i);
		stv(y + row * h + i, v);
	}
}

// starts[v] = first of the sorted positions whose token is v or more, v <= vocab.
extern "C" __global__ void token_starts(int *starts, const int *sorted, const int *ids, index_t rows, index_t vocab) {
	index_t i = (index_t)blockIdx.x * blockDim.x + threadIdx.x;
	if (i > rows) return;
	auto token = [&](index_t j) { return (index_t)min((unsigned)ids[sorted[j]], (unsigned)vocab); };
	index_t from = i == 0 ? 0 : token(i - 1) + 1, to = i == rows ? vocab : token(i);
	for (index_t v = from; v <= to && v <= vocab; v++) starts[v] = (int)i;
}

// dtable[v] = sum of dy over the positions of v, in their order; zero for pad. A
// block has TOKENS tokens, most of which have no position: their bounds are read
// together. The second extent of the grid cuts columns.
extern "C" __global__ void embedding_grad(W *dtable, const int *starts, const int *sorted, const DY *dy, index_t vocab, index_t h, index_t pad) {
	index_t token = (index_t)blockIdx.x * TOKENS, c = ((index_t)blockIdx.y * blockDim.x + threadIdx.x) * VEC;
	if (c >= h) return;
	int bounds[TOKENS + 1];
#pragma unroll
	for (int i = 0; i <= TOKENS; i++) bounds[i] = starts[min(token + i, vocab)];
#pragma unroll
	for (int k = 0; k < TOKENS; k++) {
		index_t v = token + k;
		if (v >= vocab) return;
		float sum[VEC] = {};
		int last = v == pad ? bounds[k] : bounds[k + 1];
#pragma unroll 4
		for (int i = bounds[k]; i < last; i++) {
			float g[VEC];
			ldv(g, dy + (index_t)sorted[i] * h + c);
			for (int j = 0; j < VEC; j++) sum[j] += g[j];
		}
		stv(dtable + v * h + c, sum);
	}
}
