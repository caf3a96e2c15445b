// The products of grouped.cu in bf16 on Hopper's tensor cores. Extents of lines have
// to be multiples of 8 elements.
//
// Floor: operations, 2 S N K at 750 TFLOP/s: 1.47 ms for S 32768, K 2048, N 8192.
//
// A block computes tiles of TM x TN sums: a warpgroup copies, two have 64 x TN sums
// each. Operands come in steps of TK through STAGES buffers. CLUSTER blocks, below
// one another, share their columns' operand: each fetches a part of it for all, which
// saves a third of the traffic out of the second-level cache. As many blocks as run
// at a time go through all tiles in an order that keeps operands in that cache; while
// a tile's sums are written, the next tile's operands come.

#define TM 128
#define TN 256
#define TK 64
#define A_BYTES (TM * TK * 2)
#define STAGE ((TM + TN) * TK * 2)
#define BLOCK (TK * LINE) // bytes of 64 elements of a line, in an operand across
#define PANEL 8			  // tiles below one another that are computed together

// Tile is the work of a block: sums from (i0, j0) on of the product of expert e,
// which has `rows` rows of data from `from` on.
struct Tile {
	int e, i0, j0, from, rows;
};

struct Barriers {
	word_t tile_full[2], tile_free[2], full[STAGES], free[STAGES];
	Tile tile[2];
};

#define ADDRESS(member) shared_address(&barriers.member)

inline int cluster_rank() {
	int r;
	asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(r));
	return r;
}

// Finder finds tiles by number. These go up, so that it goes through the experts once.
struct Finder {
	const int *offsets;
	int experts, height, columns;
	int e = 0, first = 0, from = 0, rows = -1, lines = 0; // of expert e: its first tile, its rows, tiles below one another

	// find is false beyond the last tile. `height` of a product is its expert's rows
	// where it is 0.
	inline bool find(Tile &tile, int number) {
		if (rows < 0) visit(0);
		while (e < experts && number >= first + lines * columns) first += lines * columns, visit(e + 1);
		tile.e = -1;
		if (e >= experts) return false;
		number -= first;
		int panel = number / (PANEL * columns), rest = number % (PANEL * columns), high = min(PANEL, lines - panel * PANEL);
		tile = {e, ((panel * PANEL + rest % high) * CLUSTER + cluster_rank()) * TM, rest / high * TN, from, rows};
		return true;
	}
	inline void visit(int expert) {
		e = expert;
		if (e >= experts) return;
		from = offsets[e], rows = offsets[e + 1] - from;
		lines = ((height ? height : rows) + CLUSTER * TM - 1) / (CLUSTER * TM);
	}
};

// Product is c = a b^T for each expert, `width` wide. An operand is across where
// neighbours in k are not neighbours in memory. Where a is, the sum goes over the
// expert's rows and c has `height` rows, otherwise over `depth` and c has as many.
template <int a_across, int b_across> struct Product {
	const StructMap &a, &b;
	const int *offsets;
	int experts, height, width, depth;

	inline int steps(const Tile &tile) const { return ((a_across ? tile.rows : depth) + TK - 1) / TK; }

	// copy is the copying thread's part.
	inline void copy(Barriers &barriers, unsigned stages) const {
		ring<STAGES> at;
		ring<2> slot;
		Finder finder{offsets, experts, height, (width + TN - 1) / TN};
		int rank = cluster_rank();
		for (int number = blockIdx.x / CLUSTER;; number += gridDim.x / CLUSTER, slot.next()) {
			Tile tile;
			bool there = finder.find(tile, number);
			wait(ADDRESS(tile_free[slot.at]), slot.parity ^ 1);
			barriers.tile[slot.at] = tile;
			arrive(ADDRESS(tile_full[slot.at]));
			if (!there) return;
			int a_row = tile.from + (a_across ? 0 : tile.i0), b_row = a_across ? tile.from : 0, b_expert = a_across ? 0 : tile.e;
			for (int step = 0; step < steps(tile); step++, at.next()) {
				unsigned to = stages + at.at * STAGE, full = ADDRESS(full[at.at]);
				wait(ADDRESS(free[at.at]), at.parity ^ 1);
				expect(full, STAGE);
				if (a_across) {
#pragma unroll
					for (int i = 0; i < TM / 64; i++) load(to + i * BLOCK, a, full, tile.i0 + i * 64, a_row + step * TK, 0);
				} else
					load(to, a, full, step * TK, a_row, 0);
				to += A_BYTES;
				const int part = TN / CLUSTER;
				const unsigned short all = (1 << CLUSTER) - 1;
#pragma unroll
				for (int i = 0; i < part; i += b_across ? 64 : 128) {
					int j = rank * part + i, x = b_across ? tile.j0 + j : step * TK, y = b_across ? b_row + step * TK : tile.j0 + j;
					if (CLUSTER > 1) load(to + j * LINE, b, full, x, y, b_expert, all);
					else load(to + j * LINE, b, full, x, y, b_expert);
				}
			}
		}
	}

	// clear makes lines of a step zero: rows of other experts.
	inline void clear(unsigned stage, int lines) const {
		int pieces = (TK - lines) * 8;
		for (int i = threadIdx.x - 128; i < (TM + TN) / 64 * pieces; i += 256)
			asm volatile("st.shared.v4.u32 [%0], {%1, %1, %1, %1};" ::"r"(stage + i / pieces * BLOCK + lines * LINE + i % pieces * 16), "r"(0) : "memory");
		asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
		asm volatile("bar.sync 1, 256;" ::: "memory");
	}

	// compute is a computing warpgroup's part.
	inline void compute(Barriers &barriers, unsigned stages, Y *c, bool accumulate) const {
		int group = threadIdx.x / 128 - 1, lane = threadIdx.x & 31;
		ring<STAGES> at;
		ring<2> slot;
		float sum[TN / 2];
		auto release = [&](int stage) {
			if (lane < CLUSTER) arrive(ADDRESS(free[stage]), lane);
		};
		for (;; slot.next()) {
			wait(ADDRESS(tile_full[slot.at]), slot.parity);
			Tile tile = barriers.tile[slot.at];
			arrive(ADDRESS(tile_free[slot.at])); // every thread that has read it
			if (tile.e < 0) return;
#pragma unroll
			for (int i = 0; i < TN / 2; i++) sum[i] = 0;
			int before = -1, last = steps(tile);
			for (int step = 0; step < last; step++) {
				unsigned from = stages + at.at * STAGE, a_from = from + (a_across ? group * BLOCK : group * 64 * LINE), b_from = from + A_BYTES;
				wait(ADDRESS(full[at.at]), at.parity);
				if (a_across && step == last - 1 && tile.rows % TK) clear(from, tile.rows % TK);
				wgmma_fence();
#pragma unroll
				for (int k = 0; k < TK / 16; k++)
					wgmma<a_across, b_across>(sum, descriptor(a_from + k * (a_across ? 16 * LINE : 32), BLOCK),
						descriptor(b_from + k * (b_across ? 16 * LINE : 32), BLOCK), 1);
				wgmma_commit();
				wgmma_wait<1>();
				if (before >= 0) release(before);
				before = at.at, at.next();
			}
			wgmma_wait<0>();
			settled(sum);
			if (before >= 0) release(before);
			int i = tile.i0 + group * 64 + (threadIdx.x & 127) / 32 * 16 + lane / 4, high = a_across ? height : tile.rows;
			Y *to = c + ((index_t)(a_across ? tile.e * height : tile.from) + i) * width + tile.j0;
#pragma unroll
			for (int r = 0; r < 2; r++)
				write(to + 8 * r * (index_t)width, sum, r, i + 8 * r < high ? width - tile.j0 : 0, accumulate);
		}
	}

	// write the first columns of a row of sums.
	inline void write(float *to, const float (&sum)[TN / 2], int r, int columns, bool accumulate) const {
		int t = threadIdx.x % 4 * 2;
#pragma unroll
		for (int j = 0; j < TN / 8; j++) {
			if (8 * j + t >= columns) continue;
			float2 v = accumulate ? *(float2 *)(to + 8 * j + t) : make_float2(0, 0);
			*(float2 *)(to + 8 * j + t) = make_float2(v.x + sum[4 * j + 2 * r], v.y + sum[4 * j + 2 * r + 1]);
		}
	}
	inline void write(bf16 *to, float (&sum)[TN / 2], int r, int columns, bool accumulate) const {
		int t = threadIdx.x % 4 * 2;
		if (accumulate)
#pragma unroll
			for (int j = 0; j < TN / 8; j++) {
				if (8 * j + t >= columns) continue;
				unsigned v = *(unsigned *)(to + 8 * j + t);
				sum[4 * j + 2 * r] += low_of(v), sum[4 * j + 2 * r + 1] += high_of(v);
			}
		store_row(to, sum, 2 * r, 1.0f, columns);
	}

	// run is the kernel.
	inline void run(Y *c, bool accumulate) const {
		extern __shared__ unsigned char memory[];
		__shared__ Barriers barriers;
		unsigned stages = (shared_address(memory) + 1023) & ~1023u;
		if (threadIdx.x == 0) {
			for (int i = 0; i < 2; i++) barrier_init(ADDRESS(tile_full[i]), 1), barrier_init(ADDRESS(tile_free[i]), 256);
			for (int i = 0; i < STAGES; i++) barrier_init(ADDRESS(full[i]), 1), barrier_init(ADDRESS(free[i]), 8 * CLUSTER);
			barrier_init_done();
		}
		cluster_sync();
		if (threadIdx.x < 128) {
			give_registers<40>();
			if (threadIdx.x == 0) copy(barriers, stages);
		} else {
			take_registers<232>();
			compute(barriers, stages, c, accumulate);
		}
		__syncwarp();
		cluster_sync(); // the others' copies and arrivals come here
	}
};

// y[s, n] = x[s, k] w[e][n, k]^T.
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(384, 1) grouped(Y *y, const __grid_constant__ StructMap x,
	const __grid_constant__ StructMap w, const int *offsets, index_t experts, index_t n, index_t k) {
	Product<0, 0>{x, w, offsets, (int)experts, 0, (int)n, (int)k}.run(y, false);
}

// dx[s, k] = dy[s, n] w[e][n, k].
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(384, 1) grouped_dx(Y *dx, const __grid_constant__ StructMap dy,
	const __grid_constant__ StructMap w, const int *offsets, index_t experts, index_t n, index_t k) {
	Product<0, 1>{dy, w, offsets, (int)experts, 0, (int)k, (int)n}.run(dx, false);
}

// dw[e][n, k] = sum over rows of dy[s, n] x[s, k].
extern "C" __global__ void __cluster_dims__(CLUSTER, 1, 1) __launch_bounds__(384, 1) grouped_dw(Y *dw, const __grid_constant__ StructMap dy,
	const __grid_constant__ StructMap x, const int *offsets, index_t experts, index_t n, index_t k, index_t accumulate) {
	Product<1, 1>{dy, x, offsets, (int)experts, (int)n, (int)k, 0}.run(dw, accumulate != 0);
}
