// Rotary positions (model/op/rope.go). A thread has a pair of each head of a
// token; the angle is reduced in double, as a float has too few digits for it.

struct StructFrequencies {
	double of[PAIRS];
};

extern "C" __global__ void rope(Y *y, const X *x, const int *starts, const int *pos, StructFrequencies frequency, index_t rows, index_t length,
	index_t heads, index_t copied, float sign) {
	index_t row = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (row >= rows) return;
	index_t width = heads * 2 * PAIRS + copied;
	x += row * width, y += row * width;
	int start = starts[row];
	double at = row % length - start + (pos && start == 0 ? *pos : 0);
	for (int i = threadIdx.x; i < PAIRS; i += blockDim.x) {
		double angle = at * frequency.of[i];
		angle -= rint(angle * 0.15915494309189535) * 6.283185307179586;
		float sine, cosine;
		sincosf((float)angle, &sine, &cosine);
		sine *= sign;
		for (index_t h = 0; h < heads; h++) {
			index_t a = h * 2 * PAIRS + i, b = a + PAIRS;
			float u = ld(x + a), v = ld(x + b);
			st(y + a, u * cosine - v * sine), st(y + b, v * cosine + u * sine);
		}
	}
	if ((const void *)x == (const void *)y) return;
	for (index_t i = threadIdx.x; i < copied; i += blockDim.x) st(y + heads * 2 * PAIRS + i, ld(x + heads * 2 * PAIRS + i));
}
