// What the kernels for Hopper (compute capability 9.0) share: barriers in shared
// memory, copies of tiles by the copy engine (TMA), and products on the tensor cores
// by warpgroups of 128 threads (wgmma). It is put in front of files *_hopper.cu.
//
// A tile of bf16 lies in shared memory as lines of 64 elements, 128 bytes, eight of
// them a swizzled kilobyte: the order that the copy engine leaves with a swizzle of
// 128 bytes and that the tensor cores read without bank conflicts.

#define LINE 128 // bytes

// StructMap describes a tensor to the copy engine (tensor_map.go).
struct __align__(64) StructMap {
	word_t words[16];
};

inline unsigned shared_address(const void *p) { return (unsigned)__cvta_generic_to_shared(p); }

// Barriers: a phase ends when as many threads as the barrier counts have arrived and
// the bytes that it expects have come. Phases alternate in parity, from 0 on.
inline void barrier_init(unsigned barrier, unsigned count) {
	asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(count) : "memory");
}
inline void barrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
inline void arrive(unsigned barrier) { asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory"); }
inline void expect(unsigned barrier, unsigned bytes) {
	asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes) : "memory");
}
// arrive at the barrier of a block of the cluster. Nothing that this block has written
// is visible there for it.
inline void arrive(unsigned barrier, unsigned block) {
	asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1; mbarrier.arrive.shared::cluster.b64 _, [there]; }" ::"r"(
					 barrier),
				 "r"(block)
				 : "memory");
}
inline void cluster_sync() {
	asm volatile("barrier.cluster.arrive.release.aligned; barrier.cluster.wait.acquire.aligned;" ::: "memory");
}
inline bool passed(unsigned barrier, unsigned parity) {
	unsigned done;
	asm volatile("{ .reg .pred done; mbarrier.try_wait.parity.shared::cta.b64 done, [%1], %2; selp.u32 %0, 1, 0, done; }"
				 : "=r"(done)
				 : "r"(barrier), "r"(parity)
				 : "memory");
	return done != 0;
}
inline void wait(unsigned barrier, unsigned parity) {
#ifdef HANG
	for (int i = 0; !passed(barrier, parity); i++)
		if (i > 1000000) __trap();
#else
	while (!passed(barrier, parity)) {
	}
#endif
}

// ring counts the uses of as many buffers in turn.
template <int buffers> struct ring {
	int at = 0;
	unsigned parity = 0;
	void next() {
		if (++at == buffers) at = 0, parity ^= 1;
	}
};

// load starts to copy a tile, whose bytes the barrier expects. Coordinates are of the
// tile's first element; what lies outside the tensor is zero.
inline void load(unsigned to, const StructMap &map, unsigned barrier, int x, int y, int z, int w) {
	asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
				 "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z), "r"(w)
				 : "memory");
}
// load of three dimensions to the same place in all blocks of a cluster that the mask
// names, and to their barriers.
inline void load(unsigned to, const StructMap &map, unsigned barrier, int x, int y, int z, unsigned short mask) {
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1, {%3, %4, %5}], [%2], %6;"
				 ::"r"(to), "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z), "h"(mask)
				 : "memory");
}
inline void load(unsigned to, const StructMap &map, unsigned barrier, int x, int y, int z) {
	asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
				 "l"(&map), "r"(barrier), "r"(x), "r"(y), "r"(z)
				 : "memory");
}
// load of plain bytes, whole pieces of 16.
inline void load(unsigned to, const void *from, unsigned barrier, unsigned bytes) {
	asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes),
				 "r"(barrier)
				 : "memory");
}

// Registers of a warpgroup: those that copy give theirs to those that compute.
template <int n> inline void give_registers() { asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(n)); }
template <int n> inline void take_registers() { asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(n)); }

// descriptor of a matrix in shared memory. `block` is the number of bytes from 64
// elements of a line to the next 64, for operands across.
inline word_t descriptor(unsigned at, unsigned block) {
	const word_t swizzled = 1ull << 62, eight_lines = 8 * LINE / 16;
	return swizzled | eight_lines << 32 | (word_t)(block / 16) << 16 | (at & 0x3ffff) >> 4;
}

inline void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// wgmma_wait waits for all but the latest groups.
template <int pending> inline void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory"); }
// settled keeps the compiler from reading sums before a wait above.
template <int n> inline void settled(float (&d)[n]) {
#pragma unroll
	for (int i = 0; i < n; i++) asm volatile("" : "+f"(d[i])::"memory");
}

inline unsigned pack(float low, float high) {
	unsigned v;
	asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(high), "f"(low));
	return v;
}
inline float low_of(unsigned v) { return __uint_as_float(v << 16); }
inline float high_of(unsigned v) { return __uint_as_float(v & 0xffff0000u); }

// Two computing warpgroups, 0 and 1, take turns to start products, so that one computes
// with its sums while the tensor cores work for the other: each waits for its turn and
// lets the other go. At first warpgroup 1 has to let 0 go.
inline void my_turn(int group) { asm volatile("bar.sync %0, 256;" ::"r"(1 + group) : "memory"); }
inline void your_turn(int group) { asm volatile("bar.arrive %0, 256;" ::"r"(2 - group) : "memory"); }

// store_row writes the first columns of a row of sums: each thread of four has two of
// every eight neighbours, sums d[4 j + first], and gets eight of every 32 to write at
// once.
template <int n> inline void store_row(bf16 *to, const float (&d)[n], int first, float scale, index_t columns) {
	int t = threadIdx.x & 3;
#pragma unroll
	for (int j = 0; j < n / 4; j += 4) {
		unsigned r[4];
#pragma unroll
		for (int i = 0; i < 4; i++) r[i] = pack(d[4 * (j + i) + first] * scale, d[4 * (j + i) + first + 1] * scale);
#pragma unroll
		for (int i = 0; i < 4; i += 2) {
			unsigned got = __shfl_xor_sync(ALL_LANES, t & 1 ? r[i] : r[i + 1], 1);
			if (t & 1) r[i] = got; else r[i + 1] = got;
		}
#pragma unroll
		for (int i = 0; i < 2; i++) {
			unsigned got = __shfl_xor_sync(ALL_LANES, t & 2 ? r[i] : r[i + 2], 2);
			if (t & 2) r[i] = got; else r[i + 2] = got;
		}
		if ((j + t) * 8 < columns) *(uint4 *)(to + (j + t) * 8) = make_uint4(r[0], r[1], r[2], r[3]);
	}
}

// wgmma: d, of a warpgroup, += a b^T of a step of 16 in k, for 64 rows and as many
// columns as d has sums for. Operands are descriptors of shared memory, or fragments
// in registers for a. An operand is `across` where neighbours in k are not neighbours
// in memory. Without add, d is overwritten.

#define SUMS8(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), "+f"(d[i + 6]), "+f"(d[i + 7])
#define SUMS32(i) SUMS8(i), SUMS8(i + 8), SUMS8(i + 16), SUMS8(i + 24)
#define SUMS64(i) SUMS32(i), SUMS32(i + 32)
#define SUMS128(i) SUMS64(i), SUMS64(i + 64)
#define LIST_0_32 \
	"%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, " \
	"%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define LIST_32_64 \
	"%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, " \
	"%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define LIST_64_128 \
	"%64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, " \
	"%80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, " \
	"%96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, " \
	"%112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"

template <int a_across, int b_across> inline void wgmma(float (&d)[32], word_t a, word_t b, int add) {
	asm volatile("{ .reg .pred add; setp.ne.b32 add, %34, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" LIST_0_32
				 "}, %32, %33, add, 1, 1, %35, %36; }"
				 : SUMS32(0)
				 : "l"(a), "l"(b), "r"(add), "n"(a_across), "n"(b_across));
}

template <int a_across, int b_across> inline void wgmma(float (&d)[64], word_t a, word_t b, int add) {
	asm volatile("{ .reg .pred add; setp.ne.b32 add, %66, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" LIST_0_32 ", " LIST_32_64
				 "}, %64, %65, add, 1, 1, %67, %68; }"
				 : SUMS64(0)
				 : "l"(a), "l"(b), "r"(add), "n"(a_across), "n"(b_across));
}

template <int a_across, int b_across> inline void wgmma(float (&d)[128], word_t a, word_t b, int add) {
	asm volatile("{ .reg .pred add; setp.ne.b32 add, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" LIST_0_32 ", " LIST_32_64 ", " LIST_64_128
				 "}, %128, %129, add, 1, 1, %131, %132; }"
				 : SUMS128(0)
				 : "l"(a), "l"(b), "r"(add), "n"(a_across), "n"(b_across));
}

template <int b_across> inline void wgmma(float (&d)[32], const unsigned *a, word_t b, int add) {
	asm volatile("{ .reg .pred add; setp.ne.b32 add, %37, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" LIST_0_32
				 "}, {%32, %33, %34, %35}, %36, add, 1, 1, %38; }"
				 : SUMS32(0)
				 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(b_across));
}

template <int b_across> inline void wgmma(float (&d)[64], const unsigned *a, word_t b, int add) {
	asm volatile("{ .reg .pred add; setp.ne.b32 add, %69, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" LIST_0_32 ", " LIST_32_64
				 "}, {%64, %65, %66, %67}, %68, add, 1, 1, %70; }"
				 : SUMS64(0)
				 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(b_across));
}
