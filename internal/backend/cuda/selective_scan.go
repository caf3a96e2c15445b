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
	defines := []define{constant("N", s.states), constant("P", s.lanes), constant("C", s.each), constant("GROUP", s.group), constant("THREADS", s.threads),
		typed("TX", s.x), typed("TDT", s.dt), typed("TBIAS", s.bias), typed("TALOG", s.alog), typed("TB", s.b), typed("TC", s.c),
		typed("TSKIP", s.skip), typed("TZ", s.z)}
	return a.file(name, append(defines, types...)...)
}

func selectiveScan(a *args) {
	s := newScan(a, scanThreads)
	y, h1, starts := a.out(0), a.out(1), a.out(2)
	s.cut()
	s.pair(y)
	f := s.file(a, "scan", typed("TY", y))
	carry := address(0)
	if s.segments > 1 {
		ends, deltas := a.scratch(s.parts()*s.size()), a.scratch(s.parts()*s.dim)
		carry = a.scratch(s.parts() * s.size())
		f.launch("scan_forward_ends", s.grid(), ends, deltas, s.inputs())
		s.carry(f, carry, ends, deltas, s.h0, false)
	}
	f.launch("scan_forward", s.grid(), y, h1, starts, carry, s.h0, s.inputs())
}

// inputs is StructScan of scan.cu.
func (s scan) inputs() []byte {
	return structure(s.x, s.dt, s.bias, s.alog, s.b, s.c, s.skip, s.z, s.docs, s.length, s.dim, s.chunk, s.segment)
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
	f := s.file(a, "scan_grad", typed("TDY", dy), typed("TDX", dx), typed("TDDT", ddt), typed("TDZ", dz))
	tokens := s.batch * s.length
	g := s.grid()
	biases, skips, alogs := a.scratch(s.parts()*s.dim), a.scratch(s.parts()*s.dim), a.scratch(s.parts()*s.size())
	bs, cs := a.scratch(g.x*tokens*s.states), a.scratch(g.x*tokens*s.states)
	carry := address(0)
	if s.segments > 1 {
		ends, deltas := a.scratch(s.parts()*s.size()), a.scratch(s.parts()*s.dim)
		carry = a.scratch(s.parts() * s.size())
		f.launch("scan_backward_ends", g, ends, deltas, dy, s.inputs())
		s.carry(f, carry, ends, deltas, dh1, true)
	}
	turns := 1 // as in scan_grad.cu
	if s.states == 4*s.lanes && s.lanes <= 8 {
		turns = 4
	}
	g.shared = 4 * (s.chunk/s.group*s.each*s.threads*s.states/s.lanes + 2*turns*s.chunk*s.states + s.threads/32*s.chunk*2*s.states)
	f.launch("scan_backward", g, structure(dx, ddt, dz, dh0, biases, skips, alogs, bs, cs), carry, dh1, starts, dy, s.inputs())
	a.sumParts(a.out(2), biases, s.parts(), s.dim, s.dim)
	a.sumParts(a.out(3), alogs, s.parts(), s.size(), s.size())
	a.sumParts(a.out(4), bs, g.x, tokens*s.states, tokens*s.states)
	a.sumParts(a.out(5), cs, g.x, tokens*s.states, tokens*s.states)
	a.sumParts(a.out(6), skips, s.parts(), s.dim, s.dim)
}
