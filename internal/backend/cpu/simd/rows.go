package simd

//go:generate go run -C gen . -kernels rows -pkg simd -out ../rows_amd64.s -stubs ../rows_stubs_amd64.go

// rowKernels are loops over many rows that are too short for a call each.
type rowKernels struct {
	// normRows is RMSNorm of rows of len(w) elements: those of x are ldx apart, those of y follow each other, and
	// the factors are ldr apart. normRowsGrad is its gradient, with the rows of dx where those of x are, and adds to dw.
	normRows     func(y, rstd, x, w []float32, rows, ldx, ldr int, eps float32)
	normRowsGrad func(dx, dw, dy, x, w, rstd []float32, rows, ldx, ldr int)
}

// rowTables has the kernels of each level; what is not Go is added where there is assembly for it.
var rowTables = [...]*rowKernels{levelGo: &goRows, levelAVX2: &goRows, levelAVX512: &goRows}

func rows() *rowKernels { return rowTables[current] }

var goRows = rowKernels{normRows: normRowsGo, normRowsGrad: normRowsGradGo}

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
