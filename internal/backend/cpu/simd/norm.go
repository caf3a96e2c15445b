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

// splitRows is the number of rows whose parts are taken one after the other: the cache holds them.
const splitRows = 32

// SplitNorm takes the rows of p apart into three outputs of the given widths, each RMS-normed by itself with its
// w and its column of rstd[rows,3]. Without w (all nil) they are copied and rstd is not used.
func SplitNorm(out [3][]float32, rstd, p []float32, w [3][]float32, widths [3]int, eps float32) {
	k, ld := rows(), widths[0]+widths[1]+widths[2]
	for t := 0; (t+1)*ld <= len(p); t += splitRows {
		n := min(splitRows, len(p)/ld-t)
		x := p[t*ld:][:n*ld]
		for i, width := range widths {
			y := out[i][t*width:][:n*width]
			if w[i] == nil {
				for r := range n {
					copy(y[r*width:][:width], x[r*ld:])
				}
			} else {
				k.normRows(y, rstd[3*t:][:3*n][i:], x, w[i][:width], n, ld, 3, eps)
			}
			x = x[width:]
		}
	}
}

// SplitNormGrad is the gradient of SplitNorm: dp, and dw, to which these rows' part is added.
func SplitNormGrad(dp []float32, dw [3][]float32, p, rstd []float32, w, dout [3][]float32, widths [3]int) {
	k, ld := rows(), widths[0]+widths[1]+widths[2]
	for t := 0; (t+1)*ld <= len(p); t += splitRows {
		n := min(splitRows, len(p)/ld-t)
		x, dx := p[t*ld:][:n*ld], dp[t*ld:][:n*ld]
		for i, width := range widths {
			dy := dout[i][t*width:][:n*width]
			if w[i] == nil {
				for r := range n {
					copy(dx[r*ld:], dy[r*width:][:width])
				}
			} else {
				k.normRowsGrad(dx, dw[i][:width], dy, x, w[i][:width], rstd[3*t:][:3*n][i:], n, ld, 3)
			}
			x, dx = x[width:], dx[width:]
		}
	}
}
