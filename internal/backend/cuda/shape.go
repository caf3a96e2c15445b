package cuda

import "jambalaya/internal/engine"

// vector is the width of memory accesses, as a definition: 8 elements where a
// tensor is bf16, else 4, if the rows of all tensors are aligned to that; else 1.
func vector(columns int, ts ...*engine.Tensor) (define, int) {
	width := 4
	for _, t := range ts {
		if t != nil && t.DType == engine.BFloat16 {
			width = 8
		}
	}
	if columns%width != 0 {
		width = 1
	}
	for _, t := range ts {
		if t != nil && t.Off%min(16, int64(width)*t.DType.Bytes()) != 0 {
			width = 1
		}
	}
	return constant("VEC", width), width
}

// blockThreads is the usual size of a block.
const blockThreads = 256

// threadsFor is a power of two, at least a warp and at most limit, that covers n.
func threadsFor(n, limit int) int {
	t := 32
	for t < n && t < limit {
		t *= 2
	}
	return t
}

// overRows gives each row of a matrix to part of a block: work without sums.
func overRows(rows, columns int) grid {
	threads := threadsFor(columns, blockThreads)
	per := blockThreads / threads
	return grid{x: blocks(rows, per), threads: threads, rows: per}
}

// aRow gives each row of a matrix to a block, which sums over it.
func aRow(rows, columns int) grid {
	return grid{x: rows, threads: threadsFor(columns, 512)}
}

// flat cuts n elements, in vectors of width, into as many blocks as keep a large
// device busy; each thread takes several.
func flat(n, width int) grid {
	return grid{x: min(blocks(n, width*blockThreads), 132*16), threads: blockThreads}
}

// rowParts is the number of parts that a sum over rows is cut into, and the rows
// of each. It depends on shapes alone, as results do on it.
func rowParts(rows, most int) (parts, each int) {
	each = max(1, blocks(rows, most))
	return blocks(rows, each), each
}
