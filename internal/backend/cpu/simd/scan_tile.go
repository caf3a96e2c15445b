package simd

// The vector levels run the scan over tiles of 16 channels by 16 states, held as [state, channel].
const (
	tileWidth = 16
	tileSize  = tileWidth * tileWidth
	log2e     = 1.44269504088896340736
)

// scanKernels are the loops over the steps of one run of a tile, on as many of its channels as a vector has
// lanes. ld is the distance of the rows of x, dt, y and so on, in bytes. gen/vec_scan.go says what each does.
type scanKernels struct {
	lanes       int
	prepare     func(pre, dt, z, bias *float32, ld, steps int)
	prepareGrad func(pre, x, dt, z, dy, bias *float32, ld, steps int)
	forward     func(y, x, pre, b, c, a, h, dskip, dt, z *float32, ld, ahead, steps int)
	states      func(trace, dz, pre, b, c, a, dskip, x, dt, z, dy *float32, ld, ahead, steps int)
	reverse     func(dx, ddt, db, dc, pre, b, c, trace, products, a, dh, dalog, dskip, dbias, ddskip *float32, ld, ahead, steps int)
}

// tiled is the end of the part of channels [c0, c1) that goes through the tiles; the rest takes the general form.
func (s *Scan) tiled(c0, c1 int) int {
	if vec().scan == nil || s.States != tileWidth {
		return c0
	}
	return c0 + (c1-c0)/tileWidth*tileWidth
}

// transposeTile turns 16 rows of 16 into columns. dst is not src.
func transposeTile(dst, src []float32) {
	transposeStrip(dst[:tileSize], tileWidth, src[:tileSize], tileWidth, tileWidth, tileWidth)
}

// workspace hands out parts of a workspace.
type workspace []float32

func (w *workspace) take(n int) []float32 {
	part := (*w)[:n:n]
	*w = (*w)[n:]
	return part
}

// tileDecayRates is -exp(alog) log2(e) for the channels of each tile, and in tmp.
func (s *Scan) tileDecayRates(a, tmp []float32, c0 int) {
	for at := 0; at < len(a); at += tileSize {
		ExpScale(tmp, s.ALog[c0*tileWidth+at:][:tileSize], 0, -log2e)
		transposeTile(a[at:], tmp)
	}
}

// toTiles transposes the states of channels from c0 on to tiles, zeros for nil; fromTiles writes them back.
func toTiles(tiles, states []float32, c0 int) {
	if states == nil {
		clear(tiles)
		return
	}
	for at := 0; at < len(tiles); at += tileSize {
		transposeTile(tiles[at:], states[c0*tileWidth+at:])
	}
}

func fromTiles(states, tiles []float32, c0 int) {
	for at := 0; at < len(tiles) && states != nil; at += tileSize {
		transposeTile(states[c0*tileWidth+at:], tiles[at:])
	}
}

// forwardTileWork is the workspace of forwardTiles.
func (s *Scan) forwardTileWork(channels int) int {
	return 2*channels*tileWidth + s.Chunk*2*tileWidth + tileSize
}

// forwardTiles computes whole tiles of channels, none for c0 == c1.
func (s *Scan) forwardTiles(y, h1, starts, work []float32, c0, c1 int) {
	if c0 == c1 {
		return
	}
	w := workspace(work)
	states := (c1 - c0) * tileWidth
	a, h, pre := w.take(states), w.take(states), w.take(s.Chunk*2*tileWidth)
	s.tileDecayRates(a, w.take(tileSize), c0)
	toTiles(h, s.H0, c0)
	for i := range s.chunks() {
		t0, end := s.chunk(i)
		if starts != nil {
			fromTiles(starts[i*s.Dim*tileWidth:], h, c0)
		}
		for t := t0; t < end; {
			next := s.runEnd(t, end)
			if s.resets(t) {
				clear(h)
			}
			for at := 0; at < states; at += tileSize {
				c := c0 + at/tileWidth
				s.forwardRun(y, pre, a[at:], h[at:], c, t, next-t, s.nextTile(c, c0, c1, next-t))
			}
			t = next
		}
	}
	fromTiles(h1, h, c0)
}

// nextTile is the distance in bytes to what is computed after a tile of channels [c0, c1) from c on: the next tile, or
// after the last the first of the run that lies so many positions further on.
func (s *Scan) nextTile(c, c0, c1, positions int) int {
	if c+tileWidth < c1 {
		return 4 * tileWidth
	}
	return 4 * (positions*s.Dim - (c - c0))
}

// forwardRun advances the tile of the channels from c on. What is computed next lies ahead bytes further on.
func (s *Scan) forwardRun(y, pre, a, h []float32, c, t, steps, ahead int) {
	k, ld := vec().scan, 4*s.Dim
	for lane := 0; lane < tileWidth; lane += k.lanes {
		i, c := t*s.Dim+c+lane, c+lane
		k.prepare(&pre[lane], &s.Dt[i], &s.Z[i], &s.Bias[c], ld, steps)
		k.forward(&y[i], &s.X[i], &pre[lane], &s.B[t*tileWidth], &s.C[t*tileWidth], &a[lane], &h[lane], &s.DSkip[c],
			&s.Dt[i], &s.Z[i], ld, ahead, steps)
	}
}

// scanTiles is the gradient of a range of channels.
type scanTiles struct {
	Scan
	ScanGrads
	c0          int
	a, g, dalog []float32 // [tiles, 16, 16]
	pre         []float32 // [Chunk, 5, 16]
	trace       []float32 // [Chunk+1, 2, 16, 16]
	products    []float32 // [2, 16, 16]
}

// gradTileWork is the workspace of gradTiles.
func (s *Scan) gradTileWork(channels int) int {
	return 3*channels*tileWidth + s.Chunk*(5*tileWidth+2*tileSize) + 4*tileSize
}

// gradTiles computes the gradients of whole tiles of channels, and adds to DB, DC, DBias and DDSkip.
func (s *Scan) gradTiles(o *ScanGrads, work []float32, c0, c1 int) {
	if c0 == c1 {
		return
	}
	w, states := workspace(work), (c1-c0)*tileWidth
	g := scanTiles{Scan: *s, ScanGrads: *o, c0: c0, a: w.take(states), g: w.take(states), dalog: w.take(states),
		pre: w.take(s.Chunk * 5 * tileWidth), trace: w.take((s.Chunk + 1) * 2 * tileSize), products: w.take(2 * tileSize)}
	s.tileDecayRates(g.a, g.products[:tileSize], c0)
	toTiles(g.g, o.DH1, c0)
	clear(g.dalog)
	for i := s.chunks() - 1; i >= 0; i-- {
		g.chunkGrad(i)
	}
	fromTiles(o.DALog, g.dalog, c0)
	for i, alog := range s.ALog[c0*tileWidth : c1*tileWidth] {
		o.DALog[c0*tileWidth+i] *= -exp32(alog)
	}
	fromTiles(o.DH0, g.g, c0)
}

// chunkGrad takes all tiles backwards over the runs of chunk i.
func (g *scanTiles) chunkGrad(i int) {
	begin, end := g.chunk(i)
	for end > begin {
		t := g.runStart(begin, end-1)
		for at := 0; at < len(g.g); at += tileSize {
			c := g.c0 + at/tileWidth
			if g.resets(t) {
				clear(g.trace[:tileSize])
			} else { // the run goes on from the state saved before the chunk
				transposeTile(g.trace, g.Starts[(i*g.Dim+c)*tileWidth:])
			}
			g.runGrad(at, c, t, end-t)
		}
		if g.resets(t) {
			clear(g.g)
		}
		end = t
	}
}

// runGrad takes the tile at offset at, of the channels from c on, backwards over a run of steps from t on.
func (g *scanTiles) runGrad(at, c, t, steps int) {
	k, ld := vec().scan, 4*g.Dim
	last, ahead := t+steps-1, g.nextTile(c, g.c0, g.c0+len(g.g)/tileWidth, -steps)
	for lane := 0; lane < tileWidth; lane += k.lanes {
		c, at, pre := c+lane, at+lane, g.pre[lane:]
		i, end := t*g.Dim+c, last*g.Dim+c
		k.prepareGrad(&pre[0], &g.X[i], &g.Dt[i], &g.Z[i], &g.DY[i], &g.Bias[c], ld, steps)
		k.states(&g.trace[lane], &g.DZ[i], &pre[0], &g.B[t*tileWidth], &g.C[t*tileWidth], &g.a[at], &g.DSkip[c],
			&g.X[i], &g.Dt[i], &g.Z[i], &g.DY[i], ld, ahead, steps)
		k.reverse(&g.DX[end], &g.DDt[end], &g.DB[last*tileWidth], &g.DC[last*tileWidth], &pre[(steps-1)*5*tileWidth],
			&g.B[last*tileWidth], &g.C[last*tileWidth], &g.trace[(steps-1)*2*tileSize+lane], &g.products[lane],
			&g.a[at], &g.g[at], &g.dalog[at], &g.DSkip[c], &g.DBias[c], &g.DDSkip[c], -ld, ahead, steps)
	}
}
