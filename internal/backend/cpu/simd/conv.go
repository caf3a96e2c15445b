package simd

// Conv is a causal depthwise convolution over one row of a batch, followed by SiLU:
//
//	y[t] = silu(b + sum_q w[K-1-q] x[t-q]),  q < K
//
// where a tap is taken only from the document of t. Before the row's start stands S0, as part of the first
// document; nil means zeros.
type Conv struct {
	Length, Dim, Kernel int
	X                   []float32 // [Length, Dim]
	W                   []float32 // [Kernel, Dim]: transposed, see ConvWeights
	B                   []float32 // [Dim]; zeros where there is no bias
	S0                  []float32 // [Kernel-1, Dim] or nil
	Docs                []int32   // [Length]
	Zeros               []float32 // [Dim], all 0
}

// ConvWeights transposes the weights w[dim,kernel] to the form that Conv takes.
func ConvWeights(wt, w []float32, dim, kernel int) {
	for d := range dim {
		for q := range kernel {
			wt[q*dim+d] = w[d*kernel+q]
		}
	}
}

// ConvWeightsGrad adds dwt[kernel,dim] to dw[dim,kernel].
func ConvWeightsGrad(dw, dwt []float32, dim, kernel int) {
	for d := range dim {
		for q := range kernel {
			dw[d*kernel+q] += dwt[q*dim+d]
		}
	}
}

// tap is the input that position t sees q positions back.
func (c *Conv) tap(t, q int) []float32 {
	s := t - q
	switch {
	case s >= 0 && c.Docs[s] == c.Docs[t]:
		return c.X[s*c.Dim:][:c.Dim]
	case s < 0 && c.S0 != nil && c.Docs[t] == c.Docs[0]:
		return c.S0[(s+c.Kernel-1)*c.Dim:][:c.Dim]
	}
	return c.Zeros[:c.Dim]
}

// whole reports whether positions [first, last] are there and of one document.
func (c *Conv) whole(first, last int) bool {
	return first >= 0 && last < c.Length && c.Docs[first] == c.Docs[last]
}

// Forward writes the rows [t0, t1) of y[Length,Dim].
func (c *Conv) Forward(y []float32, t0, t1 int) {
	k, d := vec(), c.Dim
	for t := t0; t < t1; t++ {
		row := y[t*d:][:d]
		switch {
		case c.Kernel != 4:
			c.pre(row, t)
			k.silu(row, row)
		case t+4 <= t1 && c.whole(t-3, t+3):
			k.conv4x4(y[t*d:][:4*d], c.X[(t-3)*d:][:7*d], c.W[:4*d], c.B[:d])
			t += 3
		default:
			k.conv4(row, c.tap(t, 3), c.tap(t, 2), c.tap(t, 1), c.tap(t, 0), c.W[:4*d], c.B[:d])
		}
	}
}

// pre is the pre-activation of position t.
func (c *Conv) pre(dst []float32, t int) {
	copy(dst, c.B[:c.Dim])
	for q := range c.Kernel {
		w := c.W[(c.Kernel-1-q)*c.Dim:][:c.Dim]
		for i, x := range c.tap(t, q) {
			dst[i] += w[i] * x
		}
	}
}

// State writes s1[Kernel-1,Dim], what the next position of the last document would see. s1 may be S0.
func (c *Conv) State(s1 []float32) {
	for q := c.Kernel - 2; q >= 0; q-- {
		copy(s1[(c.Kernel-2-q)*c.Dim:][:c.Dim], c.tap(c.Length-1, q))
	}
}

// GradWork is the size of Grad's workspace for a block of rows.
func (c *Conv) GradWork(rows int) int { return (rows + c.Kernel - 1) * c.Dim }

// Grad writes the rows [t0, t1) of dx, and ds0 with the first of them; it adds these rows' part to
// dw[Kernel,Dim] and db[Dim]. dy is [Length,Dim]; ds0 and ds1[Kernel-1,Dim] are nil where there is no state.
func (c *Conv) Grad(dx, ds0, dw, db, dy, ds1, work []float32, t0, t1 int) {
	d := convGrad{Conv: c, t0: t0}
	end := min(t1+c.Kernel-1, c.Length)
	d.dpre = work[:(end-t0)*c.Dim]
	for t := t0; t < t1; {
		t += d.preGrad(dw, db, dy, t, t1)
	}
	for t := t1; t < end; t++ { // their part of dw belongs to the next block
		d.preGradRow(dy, t)
	}
	for t := t0; t < t1; {
		t += d.inputGrads(dx, t, t1)
	}
	for t := max(t0, c.Length-c.Kernel+1); t < t1; t++ {
		if j := t - (c.Length - c.Kernel + 1); ds1 != nil && c.Docs[t] == c.Docs[c.Length-1] {
			vec().add(dx[t*c.Dim:][:c.Dim], dx[t*c.Dim:][:c.Dim], ds1[j*c.Dim:][:c.Dim])
		}
	}
	if t0 == 0 && ds0 != nil {
		d.stateGrad(ds0, ds1)
	}
}

// convGrad is the gradient over one block of rows: dpre is the pre-activation's, from row t0 on.
type convGrad struct {
	*Conv
	t0   int
	dpre []float32
}

// row is row t of dpre.
func (c *convGrad) row(t int) []float32 { return c.dpre[(t-c.t0)*c.Dim:][:c.Dim] }

// preGrad computes dpre from row t on, adds to the gradients of the weights, and returns how many rows it did.
func (c *convGrad) preGrad(dw, db, dy []float32, t, end int) int {
	d := c.Dim
	if c.Kernel == 4 && t+4 <= end && c.whole(t-3, t+3) {
		k, x, dpre := vec(), c.X[(t-3)*d:][:7*d], c.dpre[(t-c.t0)*d:][:4*d]
		k.conv4x4Grad(dpre, dy[t*d:][:4*d], x, c.W[:4*d], c.B[:d])
		k.conv4x4Weights(dw[:4*d], db[:d], dpre, x)
		return 4
	}
	c.preGradRow(dy, t)
	c.weightGrad(dw, db, t)
	return 1
}

func (c *convGrad) preGradRow(dy []float32, t int) {
	dpre, drow := c.row(t), dy[t*c.Dim:][:c.Dim]
	if c.Kernel == 4 {
		vec().conv4Grad(dpre, drow, c.tap(t, 3), c.tap(t, 2), c.tap(t, 1), c.tap(t, 0), c.W[:4*c.Dim], c.B[:c.Dim])
		return
	}
	c.pre(dpre, t)
	for i, pre := range dpre {
		s := sigmoid32(pre)
		dpre[i] = drow[i] * (s * (1 + pre*(1-s)))
	}
}

// weightGrad adds the part of position t.
func (c *convGrad) weightGrad(dw, db []float32, t int) {
	dpre := c.row(t)
	if c.Kernel == 4 {
		vec().conv4Weights(dw[:4*c.Dim], db[:c.Dim], dpre, c.tap(t, 3), c.tap(t, 2), c.tap(t, 1), c.tap(t, 0))
		return
	}
	vec().add(db[:c.Dim], db[:c.Dim], dpre)
	for q := range c.Kernel {
		g := dw[(c.Kernel-1-q)*c.Dim:][:c.Dim]
		for i, x := range c.tap(t, q) {
			g[i] += dpre[i] * x
		}
	}
}

// out is the gradient of the pre-activation q positions after s, where that sees s.
func (c *convGrad) out(s, q int) []float32 {
	t := s + q
	if t < 0 || t >= c.Length || c.Docs[t] != c.Docs[max(s, 0)] {
		return c.Zeros[:c.Dim]
	}
	return c.row(t)
}

// inputGrads writes dx from row t on and returns how many rows it did.
func (c *convGrad) inputGrads(dx []float32, t, end int) int {
	d := c.Dim
	if c.Kernel == 4 && t+4 <= end && c.whole(t, t+6) {
		vec().fir4x4(dx[t*d:][:4*d], c.dpre[(t-c.t0)*d:][:7*d], c.W[:4*d])
		return 4
	}
	c.inputGrad(dx[t*d:][:d], t)
	return 1
}

// inputGrad is the gradient of the input at position s, which is negative in the state.
func (c *convGrad) inputGrad(dx []float32, s int) {
	if c.Kernel == 4 {
		vec().fir4(dx, c.out(s, 0), c.out(s, 1), c.out(s, 2), c.out(s, 3), c.W[:4*c.Dim])
		return
	}
	clear(dx)
	for q := range c.Kernel {
		w := c.W[(c.Kernel-1-q)*c.Dim:][:c.Dim]
		for i, d := range c.out(s, q) {
			dx[i] += w[i] * d
		}
	}
}

// stateGrad is the gradient of S0, part of which passes straight to the last state in a row shorter than it.
func (c *convGrad) stateGrad(ds0, ds1 []float32) {
	for j := 0; j < c.Kernel-1; j++ {
		row := ds0[j*c.Dim:][:c.Dim]
		c.inputGrad(row, j-(c.Kernel-1))
		if next := j - c.Length; ds1 != nil && next >= 0 && c.Docs[c.Length-1] == c.Docs[0] {
			vec().add(row, row, ds1[next*c.Dim:][:c.Dim])
		}
	}
}
