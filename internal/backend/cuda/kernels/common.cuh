// What all files of kernels share. It is put in front of each of them.
//
// A kernel's tensors are of the types that the macros of its file name: float
// or bf16. Arithmetic is in float. Sums have a fixed order: no atomic additions
// of floats anywhere, so that the same inputs give the same bits.

typedef long long index_t;
typedef unsigned long long word_t;

#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000)
#endif

struct bf16 {
	unsigned short bits;
};

inline float ld(const float *p) { return *p; }
inline float ld(const bf16 *p) { return __uint_as_float((unsigned)p->bits << 16); }

inline unsigned short round_bf16(float v) {
	unsigned short bits;
	asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(v));
	return bits;
}

inline unsigned round_bf16(float low, float high) { // both in a word
	unsigned bits;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(high), "f"(low));
	return bits;
}

inline void st(float *p, float v) { *p = v; }
inline void st(bf16 *p, float v) { p->bits = round_bf16(v); }

// rounded is v as a tensor of the type of p would give it back.
inline float rounded(const float *, float v) { return v; }
inline float rounded(const bf16 *, float v) { return __uint_as_float((unsigned)round_bf16(v) << 16); }

// ldv and stv move V elements at once: 1, or 4 or 8 that are aligned.
template <int V, typename T> inline void ldv(float (&x)[V], const T *p) {
	for (int i = 0; i < V; i++) x[i] = ld(p + i);
}
template <> inline void ldv<4, float>(float (&x)[4], const float *p) {
	float4 v = *(const float4 *)p;
	x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w;
}
template <> inline void ldv<4, bf16>(float (&x)[4], const bf16 *p) {
	uint2 v = *(const uint2 *)p;
	x[0] = __uint_as_float(v.x << 16), x[1] = __uint_as_float(v.x & 0xffff0000u);
	x[2] = __uint_as_float(v.y << 16), x[3] = __uint_as_float(v.y & 0xffff0000u);
}
template <int V, typename T> inline void stv(T *p, const float (&x)[V]) {
	for (int i = 0; i < V; i++) st(p + i, x[i]);
}
template <> inline void stv<4, float>(float *p, const float (&x)[4]) { *(float4 *)p = make_float4(x[0], x[1], x[2], x[3]); }
template <> inline void stv<4, bf16>(bf16 *p, const float (&x)[4]) {
	uint2 v;
	v.x = round_bf16(x[0], x[1]), v.y = round_bf16(x[2], x[3]);
	*(uint2 *)p = v;
}

template <> inline void ldv<8, float>(float (&x)[8], const float *p) {
	float4 v = *(const float4 *)p, w = *(const float4 *)(p + 4);
	x[0] = v.x, x[1] = v.y, x[2] = v.z, x[3] = v.w, x[4] = w.x, x[5] = w.y, x[6] = w.z, x[7] = w.w;
}
template <> inline void ldv<8, bf16>(float (&x)[8], const bf16 *p) {
	uint4 v = *(const uint4 *)p;
	unsigned u[4] = {v.x, v.y, v.z, v.w};
	for (int i = 0; i < 4; i++) x[2 * i] = __uint_as_float(u[i] << 16), x[2 * i + 1] = __uint_as_float(u[i] & 0xffff0000u);
}
template <> inline void stv<8, float>(float *p, const float (&x)[8]) {
	*(float4 *)p = make_float4(x[0], x[1], x[2], x[3]), *(float4 *)(p + 4) = make_float4(x[4], x[5], x[6], x[7]);
}
template <> inline void stv<8, bf16>(bf16 *p, const float (&x)[8]) {
	unsigned u[4];
	for (int i = 0; i < 4; i++) u[i] = round_bf16(x[2 * i], x[2 * i + 1]);
	uint4 v;
	v.x = u[0], v.y = u[1], v.z = u[2], v.w = u[3];
	*(uint4 *)p = v;
}

inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
inline float silu(float x) { return x * sigmoid(x); }
inline float silu_grad(float x) {
	float s = sigmoid(x);
	return s * (1.0f + x * (1.0f - s));
}
inline float softplus(float x) { return x > 20.0f ? x : log1pf(expf(x)); }

// exp2_fast is 2^x to two units in the last place.
inline float exp2_fast(float x) {
	float y;
	asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

// reciprocal is 1 / x to one unit in the last place.
inline float reciprocal(float x) {
	float y;
	asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
	return y;
}

#define LOG2E 1.4426950408889634f
#define ALL_LANES 0xffffffffu

inline int lane_id() { return (threadIdx.y * blockDim.x + threadIdx.x) & 31; }

template <typename T> inline T warp_sum(T v) {
	for (int o = 16; o > 0; o >>= 1) v += __shfl_xor_sync(ALL_LANES, v, o);
	return v;
}
inline float warp_max(float v) {
	for (int o = 16; o > 0; o >>= 1) v = fmaxf(v, __shfl_xor_sync(ALL_LANES, v, o));
	return v;
}

// block_sum gives every thread of a one-dimensional block, of whole warps, the
// sum over all.
template <typename T> inline T block_sum(T v) {
	__shared__ T part[32];
	v = warp_sum(v);
	__syncthreads(); // an earlier call may still be reading
	if ((threadIdx.x & 31) == 0) part[threadIdx.x >> 5] = v;
	__syncthreads();
	int lane = threadIdx.x & 31;
	return warp_sum(lane < (int)(blockDim.x >> 5) ? part[lane] : T(0));
}

// Codes of report, with their texts in faults.go.
#define FAULT_TOKEN 1
#define FAULT_TARGET 2
#define FAULT_EXPERT 3
#define FAULT_POSITION 4

// report notes data that a kernel cannot take: the host reads the word later.
inline void report(word_t *faults, word_t code, index_t position, int value) {
	*(volatile word_t *)faults = code << 60 | (word_t)(position & 0xfffffff) << 32 | (unsigned)value;
}
