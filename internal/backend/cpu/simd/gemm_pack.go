package simd

// packColumns copies the columns of a panel: dst[k*stored + j] = src[k*ld + j] for j below columns.
func packColumns(dst []float32, stored int, src []float32, ld, columns, kc int) {
	for j := 0; j < columns; j += 16 {
		copyStrip(dst[j:], stored, src[j:], ld, min(16, columns-j), kc)
	}
}

// packTransposed copies the rows of src to the columns of a panel: dst[k*stored + j] = src[j*ld + k].
func packTransposed(dst []float32, stored int, src []float32, ld, columns, kc int) {
	for j := 0; j < columns; j += 16 {
		transposeStrip(dst[j:], stored, src[j*ld:], ld, min(16, columns-j), kc)
	}
}

// copyStripGo copies kc rows of columns floats. Elements of dst between the columns and stored keep their
// values; the products of what is there are never stored.
func copyStripGo(dst []float32, stored int, src []float32, ld, columns, kc int) {
	for k := range kc {
		from, to := src[k*ld:][:columns], dst[k*stored:][:columns]
		for j, v := range from { // too short for copy
			to[j] = v
		}
	}
}

// transposeStripGo is dst[k*stored + j] = src[j*ld + k] for j below columns and k in [k0, kc).
func transposeStripGo(dst []float32, stored int, src []float32, ld, columns, k0, kc int) {
	for j := range columns {
		row := src[j*ld : j*ld+kc]
		for k := k0; k < kc; k++ {
			dst[k*stored+j] = row[k]
		}
	}
}

// packRowPanels copies kc rows of a stored transposed A to panels, as operandA wants them: packRows of them at a time, so
// that a line which two panels share is read once.
func packRowPanels(dst, src []float32, ld, rows, kc int) {
	parts := rowPanels(rows)
	for k := 0; k < kc; k += packRows {
		for q := range parts {
			r0, r1 := cut(rows, parts, q)
			copyStrip(dst[r0*kc+k*(r1-r0):], r1-r0, src[k*ld+r0:], ld, r1-r0, min(packRows, kc-k))
		}
	}
}
