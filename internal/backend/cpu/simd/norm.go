package simd

import "math"

// RMSNorm is y = x*rstd*w with rstd = 1/sqrt(mean(x^2) + eps), for len(rstd) rows of len(w) elements.
// With delta, x + delta is normalised and stored in sum, which may be x or delta; without, both are nil.
func RMSNorm(y, rstd, sum, x, delta, w []float32, eps float32) {
	k, h := vec(), len(w)
	for t := range rstd {
		row := x[t*h:][:h]
		if delta != nil {
			k.add(sum[t*h:][:h], row, delta[t*h:][:h])
			row = sum[t*h:][:h]
		}
		rstd[t] = rstdOf(k.dot(row, row), h, eps)
		k.norm(y[t*h:][:h], row, w, rstd[t])
	}
}

func rstdOf(squares float32, h int, eps float32) float32 {
	return float32(1 / math.Sqrt(float64(squares)/float64(h)+float64(eps)))
}

// RMSNormGrad is the gradient of RMSNorm over len(rstd) rows: dx = rstd*(w*dy - x*rstd^2*mean(x*w*dy)) + dsum,
// and dw, to which these rows' part is added. x is what was normalised; dsum is nil where there is none, and
// dx may be dsum. zeros has len(w) elements, all 0.
func RMSNormGrad(dx, dw, x, w, rstd, dy, dsum, zeros []float32) {
	k, h := vec(), len(w)
	add := zeros[:h]
	for t, r := range rstd {
		row, drow := x[t*h:][:h], dy[t*h:][:h]
		if dsum != nil {
			add = dsum[t*h:][:h]
		}
		c := k.dot3(drow, row, w) * r * r * r / float32(h)
		k.normGrad(dx[t*h:][:h], dw[:h], drow, row, w, add, r, c)
	}
}

// SplitNorm takes the rows of p apart into three outputs of the given widths, each RMS-normed by itself with its
// w and its column of rstd[rows,3]. Without w (all nil) they are copied and rstd is not used.
func SplitNorm(out [3][]float32, rstd, p []float32, w [3][]float32, widths [3]int, eps float32) {
	k, ld := vec(), widths[0]+widths[1]+widths[2]
	for t := 0; (t+1)*ld <= len(p); t++ {
		row := p[t*ld:][:ld]
		for i, n := range widths {
			x, y := row[:n], out[i][t*n:][:n]
			row = row[n:]
			if w[i] == nil {
				copy(y, x)
				continue
			}
			r := rstdOf(k.dot(x, x), n, eps)
			rstd[3*t+i] = r
			k.norm(y, x, w[i], r)
		}
	}
}

// SplitNormGrad is the gradient of SplitNorm: dp, and dw, to which these rows' part is added. zeros has as many
// elements as the widest output, all 0.
func SplitNormGrad(dp []float32, dw [3][]float32, p, rstd []float32, w, dout [3][]float32, widths [3]int, zeros []float32) {
	k, ld := vec(), widths[0]+widths[1]+widths[2]
	for t := 0; (t+1)*ld <= len(p); t++ {
		row, drow := p[t*ld:][:ld], dp[t*ld:][:ld]
		for i, n := range widths {
			x, dx, dy := row[:n], drow[:n], dout[i][t*n:][:n]
			row, drow = row[n:], drow[n:]
			if w[i] == nil {
				copy(dx, dy)
				continue
			}
			r := rstd[3*t+i]
			c := k.dot3(dy, x, w[i]) * r * r * r / float32(n)
			k.normGrad(dx, dw[i], dy, x, w[i], zeros[:n], r, c)
		}
	}
}
