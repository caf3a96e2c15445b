package simd

//go:generate go run -C gen . -kernels rows -pkg simd -out ../rows_amd64.s -stubs ../rows_stubs_amd64.go

// rowKernels are loops over many rows that are too short for a call each.
type rowKernels struct {
	// normRows is RMSNorm of rows of len(w) elements: those of x are ldx apart, those of y follow each other, and
	// the factors are ldr apart. normRowsGrad is its gradient, with the rows of dx where those of x are, and adds to dw.
	normRows     func(y, rstd, x, w []float32, rows, ldx, ldr int, eps float32)
	normRowsGrad func(dx, dw, dy, x, w, rstd []float32, rows, ldx, ldr int)

	// routerTop is RouterTopK of so many experts for groups of lanes rows. columns is its workspace, and renormalise
	// 0 or 1. Where there is none, the general form is used.
	routerTop [3]routerTopKernel
	lanes     int

	// routerGrad is RouterTopKGrad without renormalisation. dprobs may be nil; so may dweights, with k = 0.
	routerGrad func(dlogits, probs, dprobs, dweights []float32, index []int32, rows, experts, k int)

	// The parts of a counting sort: count is the number of elements of x that are e, place8 and place16 are
	// ExpertPlace for at most so many experts. nil: the general form is used.
	count           func(x []int32, e int32) int64
	place8, place16 func(slot, source, next, index []int32, first int32)

	// expSums is the largest element of each row of n, and the sum of e^(x - top); NaN where an element is NaN or +Inf.
	// nil: there is none.
	expSums func(top, sum, x []float32, n int)

	// scatter and combineGrad are Dispatch and CombineGrad past the caches, of rows of whole cache lines (see
	// streamed). nil: there are none.
	scatter     func(xs, x []float32, slot []int32, k, h int)
	combineGrad func(dys, dweights, ys, weights, dy []float32, slot []int32, k, h int)
}

type routerTopKernel func(probs, weights []float32, index []int32, logits, columns []float32, experts, groups, renormalise int)

// rowTables has the kernels of each level; what is not Go is added where there is assembly for it.
var rowTables = [...]*rowKernels{levelGo: &goRows, levelAVX2: &goRows, levelAVX512: &goRows}

func rows() *rowKernels { return rowTables[current] }

var goRows = rowKernels{normRows: normRowsGo, normRowsGrad: normRowsGradGo, routerGrad: routerGradGo}

func normRowsGo(y, rstd, x, w []float32, rows, ldx, ldr int, eps float32) {
	n := len(w)
	for t := range rows {
		row := x[t*ldx:][:n]
		r := rstdOf(dotGo(row, row), n, eps)
		rstd[t*ldr] = r
		normGo(y[t*n:][:n], row, w, r)
	}
}

func normRowsGradGo(dx, dw, dy, x, w, rstd []float32, rows, ldx, ldr int) {
	n := len(w)
	for t := range rows {
		row, drow, out, r := x[t*ldx:][:n], dy[t*n:][:n], dx[t*ldx:][:n], rstd[t*ldr]
		c := dot3Go(drow, row, w) * r * r * r / float32(n)
		for i, d := range drow {
			dw[i] += d * row[i] * r
			out[i] = d*w[i]*r - row[i]*c
		}
	}
}

func routerGradGo(dlogits, probs, dprobs, dweights []float32, index []int32, rows, experts, k int) {
	for t := range rows {
		p, d := probs[t*experts:][:experts], dlogits[t*experts:][:experts]
		if dprobs != nil {
			copy(d, dprobs[t*experts:])
		} else {
			clear(d)
		}
		for j, e := range index[t*k:][:k] {
			d[e] += dweights[t*k+j]
		}
		var dot float32
		for e, g := range d {
			dot += g * p[e]
		}
		for e, g := range d {
			d[e] = p[e] * (g - dot)
		}
	}
}
