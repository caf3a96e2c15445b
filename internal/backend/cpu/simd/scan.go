package simd

// Scan is the selective scan of one row of a batch (Mamba, arXiv 2312.00752, algorithm 2) with its gate:
//
//	delta = softplus(dt + bias)                             [Length, Dim]
//	s[t] = exp(-exp(alog) delta[t]) s[t-1] + delta[t] x[t] b[t]     [Dim, States]
//	y[t] = (sum_n c[t,n] s[t,n] + dskip x[t]) silu(z[t])    [Length, Dim]
//
// with s[t-1] = 0 where a document starts. Channels do not depend on each other: calls for disjoint ranges of
// them may run at the same time.
type Scan struct {
	Length, Dim, States, Chunk int

	X, Dt, Z          []float32 // [Length, Dim]
	Bias, ALog, DSkip []float32 // [Dim], [Dim, States], [Dim]
	B, C              []float32 // [Length, States]
	Docs              []int32   // [Length]
	H0                []float32 // [Dim, States] or nil for zeros
}

// ScanGrads are the gradients of a scan's inputs. DX, DDt, DZ and DH0 (nil where there is no state) are of the
// shapes of the inputs; so are DBias, DALog and DDSkip, each for this row of the batch alone. DB and DC
// [Length, States] are this range of channels' part, to be added by the caller.
type ScanGrads struct {
	DX, DDt, DZ, DH0     []float32
	DBias, DALog, DDSkip []float32
	DB, DC               []float32
	DY, DH1, Starts      []float32 // inputs: the gradients of y and h1 (nil for none), and the states saved
}

// chunks is the number of chunks of a row.
func (s *Scan) chunks() int { return (s.Length + s.Chunk - 1) / s.Chunk }

// chunk is the range of positions of chunk i.
func (s *Scan) chunk(i int) (t0, t1 int) { return i * s.Chunk, min((i+1)*s.Chunk, s.Length) }

// resets reports whether position t starts a document after another.
func (s *Scan) resets(t int) bool { return t > 0 && s.Docs[t] != s.Docs[t-1] }

// runEnd is the end of the part of [t, end) that belongs to the document of t.
func (s *Scan) runEnd(t, end int) int {
	for t++; t < end && !s.resets(t); t++ {
	}
	return t
}

// runStart is the first position of the run of [begin, t] that t belongs to.
func (s *Scan) runStart(begin, t int) int {
	for t > begin && !s.resets(t) {
		t--
	}
	return t
}

// ForwardWork is the size of Forward's workspace for a number of channels.
func (s *Scan) ForwardWork(channels int) int {
	if s.States != tileWidth {
		return max(2*channels*s.States, s.forwardGroupsWork(channels))
	}
	return max(2*channels*s.States, s.forwardTileWork(channels))
}

// GradWork is the size of Grad's workspace.
func (s *Scan) GradWork(channels int) int {
	general := 2*channels*s.States + (2*s.Chunk+1)*s.States + s.Chunk
	if s.States != tileWidth {
		return max(general, s.gradGroupsWork(channels))
	}
	return max(general, s.gradTileWork(channels))
}

// Forward computes channels [c0, c1): y[Length,Dim], h1[Dim,States], and starts[chunks,Dim,States], the state
// before each chunk. h1 and starts may be nil.
func (s *Scan) Forward(y, h1, starts, work []float32, c0, c1 int) {
	if s.grouped() {
		s.forwardGroups(y, h1, starts, work, c0, c1)
		return
	}
	s.forward(y, h1, starts, work, c0, c1)
}

func (s *Scan) forward(y, h1, starts, work []float32, c0, c1 int) {
	tiled := s.tiled(c0, c1)
	s.forwardTiles(y, h1, starts, work, c0, tiled)
	s.forwardChannels(y, h1, starts, work, tiled, c1)
}

// forwardChannels is the general form: any number of channels and states.
func (s *Scan) forwardChannels(y, h1, starts, work []float32, c0, c1 int) {
	if c0 == c1 {
		return
	}
	n, channels := s.States, c1-c0
	a, h := work[:channels*n], work[channels*n:][:channels*n]
	s.decayRates(a, c0, c1)
	s.initial(h, c0, c1)
	for t := range s.Length {
		if starts != nil && t%s.Chunk == 0 { // as the position before left it, even where t resets it
			copy(starts[(t/s.Chunk*s.Dim+c0)*n:], h)
		}
		if s.resets(t) {
			clear(h)
		}
		b, c := s.B[t*n:][:n], s.C[t*n:][:n]
		for d := c0; d < c1; d++ {
			i := t*s.Dim + d
			delta := softplus32(s.Dt[i] + s.Bias[d])
			sum := scanStep(h[(d-c0)*n:][:n], a[(d-c0)*n:][:n], b, c, delta, delta*s.X[i])
			y[i] = (sum + s.DSkip[d]*s.X[i]) * silu32(s.Z[i])
		}
	}
	if h1 != nil {
		copy(h1[c0*n:c1*n], h)
	}
}

// decayRates is a = -exp(alog) for channels [c0, c1).
func (s *Scan) decayRates(a []float32, c0, c1 int) {
	for i, v := range s.ALog[c0*s.States : c1*s.States] {
		a[i] = -exp32(v)
	}
}

func (s *Scan) initial(h []float32, c0, c1 int) {
	if s.H0 == nil {
		clear(h)
		return
	}
	copy(h, s.H0[c0*s.States:c1*s.States])
}

// scanStep advances the states h of one channel and returns sum_n c h.
func scanStep(h, a, b, c []float32, delta, dx float32) float32 {
	a, b, c = a[:len(h)], b[:len(h)], c[:len(h)]
	var sum float32
	for n := range h {
		h[n] = exp32(a[n]*delta)*h[n] + dx*b[n]
		sum += c[n] * h[n]
	}
	return sum
}
