package simd

// The loops of the convolution of four taps in plain Go: see vecKernels.

// conv4Go is y = silu(b + sum_q w[q] x_q): w holds four rows of len(y) weights, the oldest tap first.
func conv4Go(y, x0, x1, x2, x3, w, b []float32) {
	n := len(y)
	w0, w1, w2, w3 := w[:n], w[n:2*n], w[2*n:3*n], w[3*n:4*n]
	for i := range y {
		y[i] = silu32(b[i] + x0[i]*w0[i] + x1[i]*w1[i] + x2[i]*w2[i] + x3[i]*w3[i])
	}
}

// conv4GradGo is dpre = dy * silu'(b + sum_q w[q] x_q).
func conv4GradGo(dpre, dy, x0, x1, x2, x3, w, b []float32) {
	n := len(dpre)
	w0, w1, w2, w3 := w[:n], w[n:2*n], w[2*n:3*n], w[3*n:4*n]
	for i := range dpre {
		pre := b[i] + x0[i]*w0[i] + x1[i]*w1[i] + x2[i]*w2[i] + x3[i]*w3[i]
		s := sigmoid32(pre)
		dpre[i] = dy[i] * (s * (1 + pre*(1-s)))
	}
}

// conv4WeightsGo is dw[q] += dpre*x_q, db += dpre.
func conv4WeightsGo(dw, db, dpre, x0, x1, x2, x3 []float32) {
	n := len(dpre)
	g0, g1, g2, g3 := dw[:n], dw[n:2*n], dw[2*n:3*n], dw[3*n:4*n]
	for i, d := range dpre {
		db[i] += d
		g0[i] += d * x0[i]
		g1[i] += d * x1[i]
		g2[i] += d * x2[i]
		g3[i] += d * x3[i]
	}
}

// fir4Go is dx = sum_q w[3-q] d_q: d_q is the gradient that reaches a row from q rows later.
func fir4Go(dx, d0, d1, d2, d3, w []float32) {
	n := len(dx)
	w0, w1, w2, w3 := w[:n], w[n:2*n], w[2*n:3*n], w[3*n:4*n]
	for i := range dx {
		dx[i] = d0[i]*w3[i] + d1[i]*w2[i] + d2[i]*w1[i] + d3[i]*w0[i]
	}
}

func conv4x4Go(y, x, w, b []float32) {
	n := len(b)
	for r := range 4 {
		conv4Go(y[r*n:][:n], x[r*n:][:n], x[(r+1)*n:][:n], x[(r+2)*n:][:n], x[(r+3)*n:][:n], w, b)
	}
}

func conv4x4GradGo(dpre, dy, x, w, b []float32) {
	n := len(b)
	for r := range 4 {
		conv4GradGo(dpre[r*n:][:n], dy[r*n:][:n], x[r*n:][:n], x[(r+1)*n:][:n], x[(r+2)*n:][:n], x[(r+3)*n:][:n], w, b)
	}
}

func conv4x4WeightsGo(dw, db, dpre, x []float32) {
	n := len(db)
	for r := range 4 {
		conv4WeightsGo(dw, db, dpre[r*n:][:n], x[r*n:][:n], x[(r+1)*n:][:n], x[(r+2)*n:][:n], x[(r+3)*n:][:n])
	}
}

func fir4x4Go(dx, d, w []float32) {
	n := len(w) / 4
	for r := range 4 {
		fir4Go(dx[r*n:][:n], d[r*n:][:n], d[(r+1)*n:][:n], d[(r+2)*n:][:n], d[(r+3)*n:][:n], w)
	}
}
