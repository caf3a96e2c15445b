package cuda

import "jambalaya/internal/engine"

func init() {
	register("selective_scan", selectiveScan)
	register("selective_scan_grad", selectiveScanGrad)
}

const (
	scanThreads  = 128     // a block
	scanFew      = 1 << 15 // threads below which rows are cut into segments
	scanMany     = 1 << 17 // threads to aim at with segments
	scanNotes    = 128     // registers for the states that a step of the gradient goes back over
	scanLanes    = 32
	stateForward = 16 // states a lane holds at most, going forward
	stateBack    = 8  // and back
)

// scan is the geometry of a selective scan and its inputs.
type scan struct {
	batch, length, chunk, dim, states       int
	x, dt, bias, alog, b, c, skip, z        *engine.Tensor
	docs, h0                                *engine.Tensor
	lanes, channels, segments, segment, sub int
	ahead                                   int // positions read ahead: a part of a chunk
}

// newScan takes the inputs of the forward operator. A lane holds at most the
// given number of states.
func newScan(a *args, most int) scan {
	s := scan{batch: a.Attrs.Int("batch"), length: a.Attrs.Int("length"), chunk: a.Attrs.Int("chunk")}
	s.x, s.dt, s.bias, s.alog, s.b, s.c, s.skip, s.z = a.in(true), a.in(true), a.in(true), a.in(true), a.in(true), a.in(true), a.in(true), a.in(true)
	s.docs, s.h0 = a.in(true), a.in(a.Attrs.Bool("state"))
	s.dim, s.states = s.alog.Dim(0), s.alog.Dim(1)
	for s.lanes = 1; s.states/s.lanes > most && s.states%(2*s.lanes) == 0 && s.lanes < scanLanes; {
		s.lanes *= 2
	}
	s.channels = scanThreads / s.lanes
	for s.ahead = 1; s.ahead < 4 && s.chunk%(2*s.ahead) == 0; {
		s.ahead *= 2
	}
	s.sub = max(1, min(8, scanNotes/2/(s.states/s.lanes)))
	chunks := blocks(s.length, s.chunk)
	s.segments = 1
	if threads := s.batch * s.dim * s.lanes; threads < scanFew {
		s.segments = max(1, min(scanMany/threads, chunks/2))
	}
	s.segment = blocks(chunks, s.segments) * s.chunk
	s.segments = blocks(s.length, s.segment)
	return s
}

// parts is the number of segments of all rows, size that of states in one row.
func (s scan) parts() int { return s.batch * s.segments }

func (s scan) size() int { return s.dim * s.states }

func (s scan) grid() grid {
	return grid{x: blocks(s.dim, s.channels), y: s.segments, z: s.batch, threads: scanThreads}
}

func (s scan) file(a *args, types ...define) file {
	defines := []define{constant("N", s.states), constant("P", s.lanes), constant("THREADS", scanThreads), constant("SUB", s.sub), constant("AHEAD", s.ahead),
		typed("TX", s.x), typed("TDT", s.dt), typed("TBIAS", s.bias), typed("TALOG", s.alog), typed("TB", s.b), typed("TC", s.c),
		typed("TSKIP", s.skip), typed("TZ", s.z)}
	return a.file("scan", append(defines, types...)...)
}

func selectiveScan(a *args) {
	s := newScan(a, stateForward)
	y, h1, starts := a.out(0), a.out(1), a.out(2)
	f := s.file(a, typed("TY", y), typed("TDY", nil), typed("TDX", nil), typed("TDDT", nil), typed("TDZ", nil))
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
	s := newScan(a, stateBack)
	starts, dy, dh1 := a.in(true), a.in(true), a.in(a.Attrs.Bool("has_dstate"))
	dx, ddt, dz, dh0 := a.out(0), a.out(1), a.out(7), a.out(8)
	f := s.file(a, typed("TY", nil), typed("TDY", dy), typed("TDX", dx), typed("TDDT", ddt), typed("TDZ", dz))
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
	notes, perLane := blocks(s.chunk, s.sub), s.states/s.lanes
	g.shared = 4 * (notes*perLane*scanThreads + notes*s.sub*(2*s.states+1) + scanThreads/32*s.sub*2*s.states)
	f.launch("scan_backward", g, structure(dx, ddt, dz, dh0, biases, skips, alogs, bs, cs), carry, dh1, starts, dy, s.inputs())
	a.sumParts(a.out(2), biases, s.parts(), s.dim, s.dim)
	a.sumParts(a.out(3), alogs, s.parts(), s.size(), s.size())
	a.sumParts(a.out(4), bs, g.x, tokens*s.states, tokens*s.states)
	a.sumParts(a.out(5), cs, g.x, tokens*s.states, tokens*s.states)
	a.sumParts(a.out(6), skips, s.parts(), s.dim, s.dim)
}
