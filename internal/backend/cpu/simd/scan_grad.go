package simd

// Grad computes the gradients of channels [c0, c1), chunk by chunk from the last to the first: it recomputes
// the states of a chunk from the one saved before it, then runs the recurrence backwards,
//
//	g[t] = dy'[t] c[t] + a[t+1] g[t+1],   dy' = dy silu(z),   a[t] = exp(-exp(alog) delta[t])
//
// from which ddelta = x sum_n g b + sum_n (g a[t] s[t-1]) A, and so on.
func (s *Scan) Grad(o *ScanGrads, work []float32, c0, c1 int) {
	if s.grouped() {
		s.gradGroups(o, work, c0, c1)
		return
	}
	s.grad(o, work, c0, c1)
}

func (s *Scan) grad(o *ScanGrads, work []float32, c0, c1 int) {
	clear(o.DB[:s.Length*s.States])
	clear(o.DC[:s.Length*s.States])
	clear(o.DBias[c0:c1])
	clear(o.DDSkip[c0:c1])
	tiled := s.tiled(c0, c1)
	s.gradTiles(o, work, c0, tiled)
	s.gradChannels(o, work, tiled, c1)
}

// gradChannels is the general form: any number of channels and states. It adds to DB, DC, DBias and DDSkip.
func (s *Scan) gradChannels(o *ScanGrads, work []float32, c0, c1 int) {
	if c0 == c1 {
		return
	}
	n, channels, w := s.States, c1-c0, workspace(work)
	g := scanGrad{Scan: s, ScanGrads: o, a: w.take(channels * n), g: w.take(channels * n),
		states: w.take((s.Chunk + 1) * n), decays: w.take(s.Chunk * n), sums: w.take(s.Chunk)}
	s.decayRates(g.a, c0, c1)
	s.initialGrad(g.g, o.DH1, c0, c1)
	clear(o.DALog[c0*n : c1*n])
	for i := s.chunks() - 1; i >= 0; i-- {
		t0, t1 := s.chunk(i)
		for d := c0; d < c1; d++ {
			g.recompute(d, t0, t1, g.a[(d-c0)*n:][:n], o.Starts[(i*s.Dim+d)*n:][:n])
			g.reverse(d, t0, t1, g.a[(d-c0)*n:][:n], g.g[(d-c0)*n:][:n])
		}
	}
	for i, a := range g.a {
		o.DALog[c0*n+i] *= a
	}
	if o.DH0 != nil {
		copy(o.DH0[c0*n:c1*n], g.g)
	}
}

func (s *Scan) initialGrad(g, dh1 []float32, c0, c1 int) {
	if dh1 == nil {
		clear(g)
		return
	}
	copy(g, dh1[c0*s.States:c1*s.States])
}

// scanGrad is the general form's gradient of a range of channels.
type scanGrad struct {
	*Scan
	*ScanGrads
	a, g           []float32 // [channels, States]: -exp(alog), and the gradient of the states
	states, decays []float32 // of one channel: [Chunk+1, States] from the state before, [Chunk, States]
	sums           []float32 // of one channel: y before the gate [Chunk]
}

// recompute fills states, decays and sums of channel d over [t0, t1).
func (g *scanGrad) recompute(d, t0, t1 int, a, start []float32) {
	n := g.States
	copy(g.states[:n], start)
	for t := t0; t < t1; t++ {
		h, next, decay := g.states[(t-t0)*n:][:n], g.states[(t-t0+1)*n:][:n], g.decays[(t-t0)*n:][:n]
		b, c := g.B[t*n:][:n], g.C[t*n:][:n]
		i := t*g.Dim + d
		delta := softplus32(g.Dt[i] + g.Bias[d])
		sum, reset := g.DSkip[d]*g.X[i], g.resets(t)
		for k := range n {
			decay[k] = exp32(a[k] * delta)
			if reset {
				decay[k] = 0 // the state before is of another document
			}
			next[k] = decay[k]*h[k] + delta*g.X[i]*b[k]
			sum += c[k] * next[k]
		}
		g.sums[t-t0] = sum
	}
}

// reverse runs channel d backwards over [t0, t1); dh is the gradient of its states after t1, then before t0.
func (g *scanGrad) reverse(d, t0, t1 int, a, dh []float32) {
	n := g.States
	dalog := g.DALog[d*n:][:n]
	for t := t1 - 1; t >= t0; t-- {
		before, state, decay := g.states[(t-t0)*n:][:n], g.states[(t-t0+1)*n:][:n], g.decays[(t-t0)*n:][:n]
		b, c, db, dc := g.B[t*n:][:n], g.C[t*n:][:n], g.DB[t*n:][:n], g.DC[t*n:][:n]
		i := t*g.Dim + d
		x, z, raw := g.X[i], g.Z[i], g.Dt[i]+g.Bias[d]
		delta, sig := softplus32(raw), sigmoid32(z)
		dsum := g.DY[i] * z * sig
		g.DZ[i] = g.DY[i] * g.sums[t-t0] * (sig * (1 + z*(1-sig)))
		g.DDSkip[d] += dsum * x
		var ddx, ddelta float32
		for k := range n {
			dc[k] += dsum * state[k]
			v := dh[k] + dsum*c[k]
			db[k] += v * delta * x
			ddx += v * b[k]
			dh[k] = v * decay[k]
			q := dh[k] * before[k]
			ddelta += q * a[k]
			dalog[k] += q * delta
		}
		g.DX[i] = ddx*delta + dsum*g.DSkip[d]
		ddt := (ddelta + ddx*x) * sigmoid32(raw)
		g.DDt[i] = ddt
		g.DBias[d] += ddt
	}
}
