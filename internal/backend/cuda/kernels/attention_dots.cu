// dots[B, heads, L] = out . dout of each head, [B, L, heads, D]; a warp each.
extern "C" __global__ void attention_dots(float *dots, const OUT *out, const DOUT *dout, index_t batch, index_t length, index_t heads) {
	index_t i = (index_t)blockIdx.x * blockDim.y + threadIdx.y;
	if (i >= batch * length * heads) return;
	float sum = 0;
	for (int c = threadIdx.x; c < D; c += 32) sum += ld(out + i * D + c) * ld(dout + i * D + c);
	sum = warp_sum(sum);
	index_t head = i % heads, t = i / heads % length, b = i / heads / length;
	if (threadIdx.x == 0) dots[(b * heads + head) * length + t] = sum;
}
