// y = silu(gate) up, of rows that hold gate, then up (model/op/swiglu.go).
//
// Floor: bytes, 12 an element of y in float; the gradient 20.
extern "C" __global__ void swiglu(Y *y, const GU *gu, index_t rows, index_t n) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	for (index_t i = (index_t)threadIdx.x * VEC; i < n; i += blockDim.x * VEC) {
		float gate[VEC], up[VEC];
		ldv(gate, gu + row * 2 * n + i), ldv(up, gu + row * 2 * n + n + i);
		for (int j = 0; j < VEC; j++) gate[j] = silu(gate[j]) * up[j];
		stv(y + row * n + i, gate);
	}
}

// dgate = dy up silu'(gate), dup = dy silu(gate). dgu may be gu.
extern "C" __global__ void swiglu_grad(DGU *dgu, const GU *gu, const Y *dy, index_t rows, index_t n) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	for (index_t i = (index_t)threadIdx.x * VEC; i < n; i += blockDim.x * VEC) {
		float gate[VEC], up[VEC], g[VEC];
		ldv(gate, gu + row * 2 * n + i), ldv(up, gu + row * 2 * n + n + i), ldv(g, dy + row * n + i);
		for (int j = 0; j < VEC; j++) {
			float s = sigmoid(gate[j]), x = gate[j];
			gate[j] = g[j] * up[j] * s * (1.0f + x * (1.0f - s));
			up[j] = g[j] * x * s;
		}
		stv(dgu + row * 2 * n + i, gate), stv(dgu + row * 2 * n + n + i, up);
	}
}
