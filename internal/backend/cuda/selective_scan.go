package cuda

import "jambalaya/internal/engine"

func init() {
	register("selective_scan", selectiveScan)
	register("selective_scan_grad", selectiveScanGrad)
}

const (
	scanThreads     = 128     // a block
	scanGradThreads = 256     // and one of the gradient
	scanFew         = 1 << 15 // threads below which rows are cut into segments
	scanMany        = 1 << 17 // threads to aim at with segments, and from which on a thread has two channels
	scanStates      = 4       // states that a lane holds at most, where N allows
	scanLanes       = 32
	scanTile        = 32        // TILE of scan.cuh
	scanShared      = 113 << 10 // bytes of shared memory of a block of the gradient: two to a multiprocessor
)

// scan is the geometry of a selective scan and its inputs.
type scan struct {
	batch, length, chunk, dim, states              int
	x, dt, bias, alog, b, c, skip, z               *engine.Tensor
	docs, h0                                       *engine.Tensor
	threads, lanes, each, group, segments, segment int // each: channels of a thread
}

// newScan takes the inputs of the forward operator.
func newScan(a *args, threads int) scan {
	s := scan{batch: a.Attrs.Int("batch"), length: a.Attrs.Int("length"), chunk: a.Attrs.Int("chunk"), threads: threads, each: 1}
	s.x, s.dt, s.bias, s.alog, s.b, s.c, s.skip, s.z = a.in(true), a.in(true), a.in(true), a.in(true), a.in(true), a.in(true), a.in(true), a.in(true)
	s.docs, s.h0 = a.in(true), a.in(a.Attrs.Bool("state"))
	s.dim, s.states = s.alog.Dim(0), s.alog.Dim(1)
	for s.lanes = 1; s.states/s.lanes > scanStates && s.states%(2*s.lanes) == 0 && s.lanes < scanLanes; {
		s.lanes *= 2
	}
	for s.group = 1; s.group < s.lanes && s.chunk%(2*s.group) == 0; {
		s.group *= 2
	}
	return s
}

// cut makes segments of rows where there are few threads.
func (s *scan) cut() {
	chunks := blocks(s.length, s.chunk)
	s.segments = 1
	if threads := s.batch * s.dim * s.lanes; threads < scanFew {
		s.segments = max(1, min(scanMany/threads, chunks/2))
	}
	s.segment = blocks(chunks, s.segments) * s.chunk
	s.segments = blocks(s.length, s.segment)
}

// pair gives a thread two channels where there are enough threads and all tensors
// allow accesses to two at once.
func (s *scan) pair(ts ...*engine.Tensor) {
	if s.dim%2 != 0 || s.batch*s.dim*s.lanes*s.segments < scanMany {
		return
	}
	for _, t := range append(ts, s.x, s.dt, s.z) {
		if t != nil && t.Off%(2*t.DType.Bytes()) != 0 {
			return
		}
	}
	s.each = 2
}

// parts is the number of segments of all rows, size that of states in one row.
func (s scan) parts() int { return s.batch * s.segments }

func (s scan) size() int { return s.dim * s.states }

func (s scan) grid() grid {
	return grid{x: blocks(s.dim, s.threads/s.lanes*s.each), y: s.segments, z: s.batch, threads: s.threads}
}

func (s scan) file(a *args, name string, types ...define) file {
	defines := []define{constant("N", s.states), constant("P", s.lanes), constant("C", s.each), constant("GROUP", s.group), constant("CHUNK", s.chunk), constant("THREADS", s.threads),
		typed("TX", s.x), typed("TDT", s.dt), typed("TBIAS", s.bias), typed("TALOG", s.alog), typed("TB", s.b), typed("TC", s.c),
		typed("TSKIP", s.skip), typed("TZ", s.z)}
	return a.file(name, append(defines, types...)...)
}

func selectiveScan(a *args) {
	s := newScan(a, scanThreads)
	y, h1, starts := a.out(0), a.out(1), a.out(2)
	s.cut()
	s.pair(y)
	if s.long(y) {
		s.file(a, "scan_long", typed("TY", y), constant("BLOCKS", 2)).launch("scan_long", s.longGrid(), y, h1, starts, s.h0, s.inputs())
		return
	}
	f := s.file(a, "scan", typed("TY", y), constant("AHEAD", s.ahead()))
	carry := address(0)
	if s.segments > 1 {
		ends, deltas := a.scratch(s.parts()*s.size()), a.scratch(s.parts()*s.dim)
		carry = a.scratch(s.parts() * s.size())
		f.launch("scan_forward_ends", s.grid(), ends, deltas, s.inputs())
		s.carry(f, carry, ends, deltas, s.h0, false)
	}
	f.launch("scan_forward", s.grid(), y, h1, starts, carry, s.h0, s.inputs())
}

// Threads of scan_long.cu, those that scan and those that prepare and finish, and its
// lanes and positions at a time.
const (
	longThreads = 256
	longOwners  = 128
	longLanes   = 8
)

// long says whether the kernel of scan_long.cu can do it, in one pass: where there are too
// few threads otherwise, but not with more lanes a channel.
func (s *scan) long(y *engine.Tensor) bool {
	const channels = longThreads / longLanes // of a block
	if s.states != 2*longLanes || s.chunk != scanTile || s.dim%channels != 0 || y == nil ||
		s.batch*s.dim*s.lanes >= scanFew || s.batch*s.dim*longLanes < scanFew {
		return false
	}
	for _, t := range []*engine.Tensor{s.x, s.dt, s.z, s.b, s.c, y} {
		if t.Off%16 != 0 {
			return false
		}
	}
	s.threads, s.lanes, s.group, s.each, s.segments, s.segment = longThreads, longLanes, longLanes, 1, 1, s.length
	return true
}

func (s scan) longGrid() grid {
	g := s.grid()
	g.threads += longOwners
	return g
}

// ahead is how many groups of positions a thread reads before it computes with the first.
func (s scan) ahead() int { return min(2, scanTile/s.group) }

// inputs is StructScan of scan.cuh.
func (s scan) inputs() []byte {
	return structure(s.x, s.dt, s.bias, s.alog, s.b, s.c, s.skip, s.z, s.docs, s.length, s.dim, s.segment)
}

// carry hands states, or their gradients, from segment to segment.
func (s scan) carry(f file, carry, ends, deltas address, initial *engine.Tensor, backward bool) {
	f.launch("scan_carry", grid{x: blocks(s.batch*s.size(), blockThreads), threads: blockThreads},
		carry, ends, deltas, initial, s.alog, s.batch, s.segments, s.dim, flagged(backward))
}

func selectiveScanGrad(a *args) {
	s := newScan(a, scanGradThreads)
	starts, dy, dh1 := a.in(true), a.in(true), a.in(a.Attrs.Bool("has_dstate"))
	dx, ddt, dz, dh0 := a.out(0), a.out(1), a.out(7), a.out(8)
	s.cut()
	for s.threads > scanLanes && s.chunkBytes() > scanShared {
		s.threads /= 2
	}
	f := s.file(a, "scan_grad", typed("TDY", dy), typed("TDX", dx), typed("TDDT", ddt), typed("TDZ", dz))
	tokens := s.batch * s.length
	g := s.grid()
	biases, skips, alogs := a.scratch(s.parts()*s.dim), a.scratch(s.parts()*s.dim), a.scratch(s.parts()*s.size())
	bs, cs := a.scratch(g.x*tokens*s.states), a.scratch(g.x*tokens*s.states)
	carry := address(0)
	if s.segments > 1 {
		carry = s.backwardCarry(a, dy, dh1)
	}
	g.shared = s.chunkBytes()
	f.launch("scan_backward", g, structure(s.or(a, dx), s.or(a, ddt), s.or(a, dz), dh0, biases, skips, alogs, bs, cs), carry, dh1, starts, dy, s.inputs())
	a.sumParts(a.out(2), biases, s.parts(), s.dim, s.dim)
	a.sumParts(a.out(3), alogs, s.parts(), s.size(), s.size())
	a.sumParts(a.out(4), bs, g.x, tokens*s.states, tokens*s.states)
	a.sumParts(a.out(5), cs, g.x, tokens*s.states, tokens*s.states)
	a.sumParts(a.out(6), skips, s.parts(), s.dim, s.dim)
}

// backwardCarry finds the gradient of the state after each segment.
func (s scan) backwardCarry(a *args, dy, dh1 *engine.Tensor) address {
	ends, deltas, carry := a.scratch(s.parts()*s.size()), a.scratch(s.parts()*s.dim), a.scratch(s.parts()*s.size())
	s.threads = scanThreads
	s.pair(dy)
	f := s.file(a, "scan_grad_ends", typed("TDY", dy), constant("AHEAD", s.ahead()))
	f.launch("scan_backward_ends", s.grid(), ends, deltas, dy, s.inputs())
	s.carry(f, carry, ends, deltas, dh1, true)
	return carry
}

// or is where a gradient of [T, D] goes: scratch memory if nobody asks for it.
func (s scan) or(a *args, t *engine.Tensor) address {
	if t == nil {
		return a.scratch(s.batch * s.length * s.dim)
	}
	return at(t)
}

// chunkBytes is the size of Chunk in scan_grad.cu.
func (s scan) chunkBytes() int {
	noted, owned := s.chunk/s.group*s.threads*s.states/s.lanes, s.chunk/s.group*s.threads*4
	sums, shared := s.threads/32*s.chunk*(2*s.states+8), 2*s.chunk*s.states
	return 4*(noted+owned+sums+shared) + blocks(s.chunk, 16)*16
}
