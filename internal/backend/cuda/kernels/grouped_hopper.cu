// The products of grouped.cu in bf16 on Hopper's tensor cores (wgmma). Rows of
// experts, tiles and grids are the same; a tile is TM x TN sums.
//
// Two warpgroups of 128 threads have 64 x 256 sums each. Operands come through
// STAGES buffers of TK in k, copied asynchronously in pieces of 16 bytes, in the
// order that the tensor cores want: lines of 128 bytes, eight of them a swizzled
// kilobyte. Extents of lines have to be multiples of 8 elements.
//
// Floor: operations, 2 S N K at 750 TFLOP/s: 1.47 ms for S 32768, K 2048, N 8192.

#define TM 128
#define TN 256
#define TK 64
#define STAGES 4
#define STAGE_BYTES ((TM + TN) * TK * 2)

inline unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

// copy moves 16 bytes to shared memory, or zeros.
inline void copy(unsigned to, const bf16 *from, bool there) {
	int bytes = there ? 16 : 0;
	asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes) : "memory");
}

// Operand of a product: element (i, k). `along` says whether neighbours in k are
// neighbours in memory, or neighbours in i.
template <bool along, int extent> struct Operand {
	const bf16 *p;
	index_t ld, size, depth; // elements between lines, how many i and k there are

	// load starts to copy the tile at (i0, k0): lines of 64 elements, along k, or
	// along i in blocks of 64.
	void load(unsigned to, index_t i0, index_t k0) const {
#pragma unroll
		for (int q = 0; q < extent * TK / 8 / 256; q++) {
			int at = threadIdx.x + q * 256;
			int line = along ? at / 8 : at / (extent / 8), piece = along ? at % 8 : at % (extent / 8);
			index_t i = i0 + (along ? line : piece * 8), k = k0 + (along ? piece * 8 : line);
			bool there = i < size && k < depth;
			unsigned offset = (along ? 0 : piece / 8 * (TK * 128)) + line * 128 + ((piece ^ line) & 7) * 16;
			copy(to + offset, there ? p + (along ? i * ld + k : k * ld + i) : p, there);
		}
	}
	// descriptor tells the tensor cores where step `step` of 16 in k starts, for the
	// i from first on.
	unsigned long long descriptor(unsigned at, int first, int step) const {
		at += along ? first * 128 + step * 32 : first / 64 * (TK * 128) + step * 16 * 128;
		const unsigned long long swizzled = 1ull << 62, next_lines = 1024 / 16, next_block = TK * 128 / 16;
		return swizzled | next_lines << 32 | next_block << 16 | (at & 0x3ffff) >> 4;
	}
};

// multiply adds the product of two steps to the sums of a warpgroup.
template <int a_across, int b_across> inline void multiply(float (&d)[128], unsigned long long a, unsigned long long b) {
	asm volatile(
		"{ .reg .pred add; setp.ne.b32 add, 1, 0; "
		"wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {"
		"%0, %1, %2, %3, %4, %5, %6, %7, "
		"%8, %9, %10, %11, %12, %13, %14, %15, "
		"%16, %17, %18, %19, %20, %21, %22, %23, "
		"%24, %25, %26, %27, %28, %29, %30, %31, "
		"%32, %33, %34, %35, %36, %37, %38, %39, "
		"%40, %41, %42, %43, %44, %45, %46, %47, "
		"%48, %49, %50, %51, %52, %53, %54, %55, "
		"%56, %57, %58, %59, %60, %61, %62, %63, "
		"%64, %65, %66, %67, %68, %69, %70, %71, "
		"%72, %73, %74, %75, %76, %77, %78, %79, "
		"%80, %81, %82, %83, %84, %85, %86, %87, "
		"%88, %89, %90, %91, %92, %93, %94, %95, "
		"%96, %97, %98, %99, %100, %101, %102, %103, "
		"%104, %105, %106, %107, %108, %109, %110, %111, "
		"%112, %113, %114, %115, %116, %117, %118, %119, "
		"%120, %121, %122, %123, %124, %125, %126, %127}, "
		"%128, %129, add, 1, 1, %130, %131; }"
		: "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3]), "+f"(d[4]), "+f"(d[5]), "+f"(d[6]), "+f"(d[7]),
		  "+f"(d[8]), "+f"(d[9]), "+f"(d[10]), "+f"(d[11]), "+f"(d[12]), "+f"(d[13]), "+f"(d[14]), "+f"(d[15]),
		  "+f"(d[16]), "+f"(d[17]), "+f"(d[18]), "+f"(d[19]), "+f"(d[20]), "+f"(d[21]), "+f"(d[22]), "+f"(d[23]),
		  "+f"(d[24]), "+f"(d[25]), "+f"(d[26]), "+f"(d[27]), "+f"(d[28]), "+f"(d[29]), "+f"(d[30]), "+f"(d[31]),
		  "+f"(d[32]), "+f"(d[33]), "+f"(d[34]), "+f"(d[35]), "+f"(d[36]), "+f"(d[37]), "+f"(d[38]), "+f"(d[39]),
		  "+f"(d[40]), "+f"(d[41]), "+f"(d[42]), "+f"(d[43]), "+f"(d[44]), "+f"(d[45]), "+f"(d[46]), "+f"(d[47]),
		  "+f"(d[48]), "+f"(d[49]), "+f"(d[50]), "+f"(d[51]), "+f"(d[52]), "+f"(d[53]), "+f"(d[54]), "+f"(d[55]),
		  "+f"(d[56]), "+f"(d[57]), "+f"(d[58]), "+f"(d[59]), "+f"(d[60]), "+f"(d[61]), "+f"(d[62]), "+f"(d[63]),
		  "+f"(d[64]), "+f"(d[65]), "+f"(d[66]), "+f"(d[67]), "+f"(d[68]), "+f"(d[69]), "+f"(d[70]), "+f"(d[71]),
		  "+f"(d[72]), "+f"(d[73]), "+f"(d[74]), "+f"(d[75]), "+f"(d[76]), "+f"(d[77]), "+f"(d[78]), "+f"(d[79]),
		  "+f"(d[80]), "+f"(d[81]), "+f"(d[82]), "+f"(d[83]), "+f"(d[84]), "+f"(d[85]), "+f"(d[86]), "+f"(d[87]),
		  "+f"(d[88]), "+f"(d[89]), "+f"(d[90]), "+f"(d[91]), "+f"(d[92]), "+f"(d[93]), "+f"(d[94]), "+f"(d[95]),
		  "+f"(d[96]), "+f"(d[97]), "+f"(d[98]), "+f"(d[99]), "+f"(d[100]), "+f"(d[101]), "+f"(d[102]), "+f"(d[103]),
		  "+f"(d[104]), "+f"(d[105]), "+f"(d[106]), "+f"(d[107]), "+f"(d[108]), "+f"(d[109]), "+f"(d[110]), "+f"(d[111]),
		  "+f"(d[112]), "+f"(d[113]), "+f"(d[114]), "+f"(d[115]), "+f"(d[116]), "+f"(d[117]), "+f"(d[118]), "+f"(d[119]),
		  "+f"(d[120]), "+f"(d[121]), "+f"(d[122]), "+f"(d[123]), "+f"(d[124]), "+f"(d[125]), "+f"(d[126]), "+f"(d[127])
		: "l"(a), "l"(b), "n"(a_across), "n"(b_across));
}

// product computes the tile at (i0, j0) of c = a b^T, or adds to it.
template <bool a_along, bool b_along>
inline void product(Y *c, index_t ldc, const Operand<a_along, TM> &a, const Operand<b_along, TN> &b, index_t i0, index_t j0, bool accumulate) {
	extern __shared__ __align__(1024) unsigned char memory[];
	unsigned base = (shared_address(memory) + 1023) & ~1023u;
	int group = threadIdx.x / 128, steps = (int)((a.depth + TK - 1) / TK);
	float sum[128] = {};
	auto load = [&](int step) {
		unsigned to = base + step % STAGES * STAGE_BYTES;
		if (step < steps) a.load(to, i0, (index_t)step * TK), b.load(to + TM * TK * 2, j0, (index_t)step * TK);
		asm volatile("cp.async.commit_group;" ::: "memory");
	};
	load(0), load(1);
	for (int step = 0; step < steps; step++) {
		asm volatile("cp.async.wait_group 1;" ::: "memory");
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		__syncthreads(); // the step is there, and the one before the last has been used
		unsigned at = base + step % STAGES * STAGE_BYTES;
		asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#pragma unroll
		for (int k = 0; k < TK / 16; k++)
			multiply<!a_along, !b_along>(sum, a.descriptor(at, group * 64, k), b.descriptor(at + TM * TK * 2, 0, k));
		asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
		load(step + 2);
		asm volatile("wgmma.wait_group.sync.aligned 1;" ::: "memory");
	}
	asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
#pragma unroll
	for (int i = 0; i < 128; i++) asm volatile("" : "+f"(sum[i])::"memory"); // not to be read before
	int lane = threadIdx.x & 31;
	index_t row = i0 + threadIdx.x / 32 * 16 + lane / 4, column = j0 + lane % 4 * 2;
#pragma unroll
	for (int j = 0; j < 32; j++)
#pragma unroll
		for (int q = 0; q < 4; q++) {
			index_t i = row + q / 2 * 8, k = column + j * 8 + q % 2;
			if (i >= a.size || k >= b.size) continue;
			Y *to = c + i * ldc + k;
			st(to, accumulate ? ld(to) + sum[j * 4 + q] : sum[j * 4 + q]);
		}
}

// expert_tile finds the expert of tile number `tile`, its rows and the first row
// of the tile among them; false beyond the last tile.
inline bool expert_tile(const int *offsets, index_t experts, index_t tile, index_t &e, index_t &from, index_t &rows, index_t &i0) {
	for (e = 0; e < experts; e++) {
		from = offsets[e], rows = offsets[e + 1] - from;
		index_t tiles = (rows + TM - 1) / TM;
		if (tile < tiles) {
			i0 = tile * TM;
			return true;
		}
		tile -= tiles;
	}
	return false;
}

// y[s, n] = x[s, k] w[e][n, k]^T. Grid (tiles of columns, tiles of rows).
extern "C" __global__ void __launch_bounds__(256, 1) grouped(Y *y, const bf16 *x, const bf16 *w, const int *offsets, index_t experts, index_t n,
	index_t k) {
	index_t e, from, rows, i0;
	if (!expert_tile(offsets, experts, blockIdx.y, e, from, rows, i0)) return;
	product<true, true>(y + from * n, n, Operand<true, TM>{x + from * k, k, rows, k}, Operand<true, TN>{w + e * n * k, k, n, k}, i0,
		(index_t)blockIdx.x * TN, false);
}

// dx[s, k] = dy[s, n] w[e][n, k].
extern "C" __global__ void __launch_bounds__(256, 1) grouped_dx(Y *dx, const bf16 *dy, const bf16 *w, const int *offsets, index_t experts,
	index_t n, index_t k) {
	index_t e, from, rows, i0;
	if (!expert_tile(offsets, experts, blockIdx.y, e, from, rows, i0)) return;
	product<true, false>(dx + from * k, k, Operand<true, TM>{dy + from * n, n, rows, n}, Operand<false, TN>{w + e * n * k, k, k, n}, i0,
		(index_t)blockIdx.x * TN, false);
}

// dw[e][n, k] = sum over rows of dy[s, n] x[s, k]. Grid (tiles of k, of n, experts).
extern "C" __global__ void __launch_bounds__(256, 1) grouped_dw(Y *dw, const bf16 *dy, const bf16 *x, const int *offsets, index_t n, index_t k,
	index_t accumulate) {
	index_t e = blockIdx.z, from = offsets[e], rows = offsets[e + 1] - from;
	product<false, false>(dw + e * n * k, k, Operand<false, TM>{dy + from * n, n, n, rows}, Operand<false, TN>{x + from * k, k, k, rows},
		(index_t)blockIdx.y * TM, (index_t)blockIdx.x * TN, accumulate != 0);
}
