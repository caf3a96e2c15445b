package simd

// Scans of other than 16 states go through the tiles by groups of 16 states, the last filled up with states that
// stay zero: what a scan computes is a sum over its states. Each group is a scan of a dense copy of the channels.

// grouped reports whether the vector levels take the scan by groups.
func (s *Scan) grouped() bool { return vec().scan != nil && s.States != tileWidth }

// scanGroup is a scan of 16 of another's states.
type scanGroup struct {
	Scan
	of     *Scan
	c0, n0 int // first channel and state of the other
	count  int // states that are the other's

	zeros, starts []float32
}

// newGroup takes the memory for groups of channels [c0, c1) and copies what all groups share.
func (s *Scan) newGroup(w *workspace, c0, c1 int) scanGroup {
	channels := c1 - c0
	tile, rows, size := channels*tileWidth, s.Length*tileWidth, s.Length*channels
	g := scanGroup{of: s, c0: c0, zeros: w.take(channels), starts: w.take(s.chunks() * tile)}
	g.Scan = Scan{Length: s.Length, Dim: channels, States: tileWidth, Chunk: s.Chunk, Docs: s.Docs, Bias: s.Bias[c0:c1],
		DSkip: s.DSkip[c0:c1], X: w.take(size), Dt: w.take(size), Z: w.take(size), ALog: w.take(tile), B: w.take(rows), C: w.take(rows)}
	if h0 := w.take(tile); s.H0 != nil {
		g.H0 = h0
	}
	clear(g.zeros)
	for _, m := range []struct{ dst, src []float32 }{{g.X, s.X}, {g.Dt, s.Dt}, {g.Z, s.Z}} {
		g.channelsIn(m.dst, m.src)
	}
	return g
}

// groupLen is the memory that newGroup takes.
func (s *Scan) groupLen(channels int) int {
	return channels*(1+2*tileWidth) + s.chunks()*channels*tileWidth + s.Length*(3*channels+2*tileWidth)
}

// channelsIn copies the group's channels from rows of all, channelsOut back.
func (g *scanGroup) channelsIn(dst, src []float32) {
	for t := range g.Length {
		copy(dst[t*g.Dim:][:g.Dim], src[t*g.of.Dim+g.c0:])
	}
}

func (g *scanGroup) channelsOut(dst, src []float32) {
	for t := range g.Length {
		copy(dst[t*g.of.Dim+g.c0:][:g.Dim], src[t*g.Dim:])
	}
}

// statesIn copies the group's states from rows of all of them, and zeros behind; statesOut copies back, for nil not.
func (g *scanGroup) statesIn(dst, src []float32) {
	for at, i := 0, g.n0; at < len(dst); at, i = at+tileWidth, i+g.of.States {
		clear(dst[at+copy(dst[at:at+g.count], src[i:]) : at+tileWidth])
	}
}

func (g *scanGroup) statesOut(dst, src []float32) {
	if dst == nil {
		return
	}
	for at, i := 0, g.n0; at < len(src); at, i = at+tileWidth, i+g.of.States {
		copy(dst[i:], src[at:at+g.count])
	}
}

// startsOf are the states of the group's channels before chunk i, in memory for all channels.
func (g *scanGroup) startsOf(starts []float32, i int) []float32 {
	return starts[(i*g.of.Dim+g.c0)*g.of.States:]
}

func (g *scanGroup) tileStarts(i int) []float32 {
	return g.starts[i*g.Dim*tileWidth:][:g.Dim*tileWidth]
}

// each calls f for each group, after it has taken its states.
func (g *scanGroup) each(f func(first bool)) {
	s, at := g.of, g.c0*g.of.States
	for g.n0 = 0; g.n0 < s.States; g.n0 += tileWidth {
		g.count = min(tileWidth, s.States-g.n0)
		g.statesIn(g.ALog, s.ALog[at:])
		g.statesIn(g.B, s.B)
		g.statesIn(g.C, s.C)
		if g.H0 != nil {
			g.statesIn(g.H0, s.H0[at:])
		}
		f(g.n0 == 0)
		g.DSkip = g.zeros // the first group has done it
	}
}

func (s *Scan) forwardGroupsWork(channels int) int {
	sub := Scan{Length: s.Length, Dim: channels, States: tileWidth, Chunk: s.Chunk}
	return s.groupLen(channels) + 2*s.Length*channels + channels*tileWidth + sub.ForwardWork(channels)
}

func (s *Scan) forwardGroups(y, h1, starts, work []float32, c0, c1 int) {
	w := workspace(work)
	g, size := s.newGroup(&w, c0, c1), s.Length*(c1-c0)
	sum, part, h := w.take(size), w.take(size), w.take((c1-c0)*tileWidth)
	clear(sum)
	g.each(func(bool) {
		g.forward(part, h, g.starts, w, 0, g.Dim)
		Add(sum, sum, part)
		if h1 != nil {
			g.statesOut(h1[c0*s.States:], h)
		}
		for i := 0; starts != nil && i < s.chunks(); i++ {
			g.statesOut(g.startsOf(starts, i), g.tileStarts(i))
		}
	})
	g.channelsOut(y, sum)
}

func (s *Scan) gradGroupsWork(channels int) int {
	sub := Scan{Length: s.Length, Dim: channels, States: tileWidth, Chunk: s.Chunk}
	return s.groupLen(channels) + 7*s.Length*channels + 2*s.Length*tileWidth + channels*(3*tileWidth+2) + sub.GradWork(channels)
}

func (s *Scan) gradGroups(o *ScanGrads, work []float32, c0, c1 int) {
	w, channels := workspace(work), c1-c0
	g, size, tile, at := s.newGroup(&w, c0, c1), s.Length*channels, channels*tileWidth, c0*s.States
	part := ScanGrads{DX: w.take(size), DDt: w.take(size), DZ: w.take(size), DY: w.take(size), Starts: g.starts,
		DBias: w.take(channels), DDSkip: w.take(channels), DALog: w.take(tile), DB: w.take(s.Length * tileWidth), DC: w.take(s.Length * tileWidth)}
	g.channelsIn(part.DY, o.DY)
	if dh1 := w.take(tile); o.DH1 != nil {
		part.DH1 = dh1
	}
	if dh0 := w.take(tile); o.DH0 != nil {
		part.DH0 = dh0
	}
	sums := w.take(3 * size)
	clear(sums)
	clear(o.DBias[c0:c1])
	g.each(func(first bool) {
		for i := range s.chunks() {
			g.statesIn(g.tileStarts(i), g.startsOf(o.Starts, i))
		}
		if part.DH1 != nil {
			g.statesIn(part.DH1, o.DH1[at:])
		}
		g.grad(&part, w, 0, channels)
		for i, d := range [][]float32{part.DX, part.DDt, part.DZ} {
			Add(sums[i*size:][:size], sums[i*size:][:size], d)
		}
		Add(o.DBias[c0:c1], o.DBias[c0:c1], part.DBias)
		if first {
			copy(o.DDSkip[c0:c1], part.DDSkip)
		}
		g.statesOut(o.DALog[at:], part.DALog)
		g.statesOut(o.DB, part.DB)
		g.statesOut(o.DC, part.DC)
		if o.DH0 != nil {
			g.statesOut(o.DH0[at:], part.DH0)
		}
	})
	for i, d := range [][]float32{o.DX, o.DDt, o.DZ} {
		g.channelsOut(d, sums[i*size:][:size])
	}
}
