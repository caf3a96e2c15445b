// The selective scan, forward, where there are few channels: see scan.cuh.
//
// Warps have roles. A channel's states are in eight lanes of the THREADS scanners, and one
// pass goes along the row. OWNERS others prepare, of each position and channel of the tile
// that comes next, what is needed once, and finish the tile before: a thread has eight
// channels of a position, so that lines are read and written whole, and what it needs for
// its next turn is on the way while it works.
//
// Floors, B1 L65536 D4096 N16 in bf16 on an H200: 2.1 GB (0.55 ms); an exponential a state
// and position and four special functions a channel and position (1.3 ms).

#define OWNERS 128
#define EACH 8				  // channels of an owner
#define PITCH (2 * TILE + 4)  // floats of a channel's steps
#define SKEW (PITCH * 8 + 16) // of eight channels'; without bank conflicts, as is
#define LINE (CHANNELS + 4)	  // of a position's sums

// Stage is what the roles hand to each other.
struct Stage {
	float steps[2][CHANNELS / 8 * SKEW]; // decay and input of each channel and position
	float4 bc[2][TILE][P + 1];			 // b0, b1, c0, c1 of each lane; without bank conflicts
	float sums[2][TILE][LINE];

	// at is the place of a channel's step at a position.
	static int at(int channel, int t) { return channel / 8 * SKEW + channel % 8 * PITCH + 2 * t; }
};

template <typename T> struct alignas(16) Eight {
	T v[EACH];
};
template <typename T> inline Eight<T> eight_at(const T *p) { return *(const Eight<T> *)p; }

// scan_tile walks along a tile.
inline void scan_tile(Stage &stage, int buffer, const Lane &lane, float (&s)[C][NP]) {
	int channel = (threadIdx.x / 32 * SPAN + (threadIdx.x & 31) % SPAN) * C;
#pragma unroll
	for (int i = 0; i < TILE; i += GROUP) {
		float sums[GROUP * C];
#pragma unroll
		for (int q = 0; q < GROUP; q += 2) {
			float4 bc[2] = {stage.bc[buffer][i + q][lane.sub], stage.bc[buffer][i + q + 1][lane.sub]};
#pragma unroll
			for (int c = 0; c < C; c++) {
				float4 two = *(const float4 *)(stage.steps[buffer] + Stage::at(channel + c, i + q));
				float decay[2] = {two.x, two.z}, u[2] = {two.y, two.w};
#pragma unroll
				for (int k = 0; k < 2; k++) {
					s[c][0] = exp2_fast(lane.a[c][0] * decay[k]) * s[c][0] + u[k] * bc[k].x;
					s[c][1] = exp2_fast(lane.a[c][1] * decay[k]) * s[c][1] + u[k] * bc[k].y;
					sums[(q + k) * C + c] = s[c][0] * bc[k].z + s[c][1] * bc[k].w;
				}
			}
		}
		to_owners<GROUP * C, 16>(sums);
#pragma unroll
		for (int c = 0; c < C; c++) stage.sums[buffer][i + lane.sub][channel + c] = sums[c];
	}
}

// Owner prepares and finishes.
struct Owner {
	const StructScan &g;
	index_t row, d; // the first channel
	int t;			// of a tile
	float bias[EACH], skip[EACH];
	Eight<TX> x, y_x;
	Eight<TDT> dt;
	Eight<TZ> z;
	Eight<TB> bc;
	int doc, before;

	Owner(const StructScan &g) : g(g), row(blockIdx.z) {
		int o = threadIdx.x - THREADS;
		t = o / (CHANNELS / EACH), d = (index_t)blockIdx.x * CHANNELS + o % (CHANNELS / EACH) * EACH;
#pragma unroll
		for (int j = 0; j < EACH; j++) bias[j] = ld(g.bias + d + j), skip[j] = ld(g.skip + d + j);
	}
	// token is that of position `at` of the row, or the last.
	index_t token(index_t at) const { return row * g.length + min(at, g.length - 1); }

	// load_next asks for what prepare needs.
	inline void load_next(index_t tile) {
		index_t own = token(tile * TILE + t);
		x = eight_at(g.x + own * g.dim + d), dt = eight_at(g.dt + own * g.dim + d);
		doc = g.docs[own], before = g.docs[tile * TILE + t > 0 ? token(tile * TILE + t - 1) : own];
		int o = threadIdx.x - THREADS, half = OWNERS / 2;
		index_t at = token(tile * TILE + o % half / 2) * N + o % 2 * EACH;
		bc = eight_at(o < half ? g.b + at : (const TB *)g.c + at);
	}
	inline void prepare(Stage &stage, index_t tile) const {
		int buffer = tile % 2, o = threadIdx.x - THREADS, half = OWNERS / 2, channel = o % (CHANNELS / EACH) * EACH;
		bool there = tile * TILE + t < g.length, open = doc != before;
#pragma unroll
		for (int j = 0; j < EACH; j++) {
			float slope, delta = step(ld(dt.v + j) + bias[j], slope);
			delta = there ? delta : 0.0f;
			*(float2 *)(stage.steps[buffer] + Stage::at(channel + j, t)) = make_float2(open ? CLOSED : delta, delta * ld(x.v + j));
		}
#pragma unroll
		for (int j = 0; j < EACH; j += 2)
			*((float2 *)&stage.bc[buffer][o % half / 2][(o % 2 * EACH + j) / NP] + (o >= half)) = make_float2(ld(bc.v + j), ld(bc.v + j + 1));
	}
	// load_last asks for what finish needs.
	inline void load_last(index_t tile) {
		index_t at = token(tile * TILE + t) * g.dim + d;
		y_x = eight_at(g.x + at), z = eight_at(g.z + at);
	}
	inline void finish(const Stage &stage, index_t tile, TY *y) const {
		if (tile * TILE + t >= g.length) return;
		const float *sums = stage.sums[tile % 2][t] + d % CHANNELS;
		float v[EACH], slope;
		ldv(v, sums);
#pragma unroll
		for (int j = 0; j < EACH; j++) v[j] = (v[j] + skip[j] * ld(y_x.v + j)) * gate(ld(z.v + j), slope);
		stv(y + token(tile * TILE + t) * g.dim + d, v);
	}
};

// y, the states before each chunk and the final one; y, h1 and starts may be null. A
// chunk is a tile; h1 may be h0.
extern "C" __global__ void __launch_bounds__(THREADS + OWNERS, BLOCKS) scan_long(TY *y, float *h1, float *starts, const float *h0, StructScan g) {
	__shared__ __align__(16) Stage stage;
	index_t row = blockIdx.z, tiles = (g.length + TILE - 1) / TILE, states = g.dim * N;
	if (threadIdx.x < THREADS) {
		Lane lane(g.bias, g.alog, g.skip, g.dim);
		float s[C][NP] = {};
#pragma unroll
		for (int c = 0; c < C; c++)
			if (h0) states_at(s[c], h0 + lane.of(row, g.dim, c));
		starts = starts ? starts + lane.of(row * tiles, g.dim, 0) : nullptr;
		__syncthreads();
		for (index_t tile = 0; tile < tiles; tile++) {
#pragma unroll
			for (int c = 0; c < C; c++)
				if (starts) keep_states(starts + tile * states + c * N, s[c]);
			scan_tile(stage, tile % 2, lane, s);
			__syncthreads();
		}
#pragma unroll
		for (int c = 0; c < C; c++)
			if (h1) keep_states(h1 + lane.of(row, g.dim, c), s[c]);
		return;
	}
	Owner owner(g);
	owner.load_next(0), owner.prepare(stage, 0), owner.load_next(1);
	__syncthreads();
	for (index_t tile = 0; tile < tiles; tile++) { // that the scanners work on
		owner.prepare(stage, tile + 1), owner.load_next(tile + 2);
		if (tile > 0) owner.finish(stage, tile - 1, y);
		owner.load_last(tile);
		__syncthreads();
	}
	owner.finish(stage, tiles - 1, y);
}
