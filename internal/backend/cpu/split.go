package cpu

import "jambalaya/internal/backend/cpu/simd"

// taskElements is about how much a task of an operator that passes over memory handles: long enough to hide
// what starting it costs, short enough to share the work evenly.
const taskElements = 1 << 15

// over returns the function that runs f over the blocks [lo, hi) of size elements that cover n.
func (b *Backend) over(n, size int, f func(lo, hi, worker int)) func() {
	tasks := blocks(n, size)
	task := func(task, worker int) { f(task*size, min((task+1)*size, n), worker) }
	return func() { b.pool.Run(tasks, task) }
}

// overRows is over for rows of the given width.
func (b *Backend) overRows(rows, width int, f func(lo, hi, worker int)) func() {
	return b.over(rows, max(1, taskElements/width), f)
}

// step makes a kernel's step of functions that cannot fail.
func step(fs ...func()) func() error {
	return func() error {
		for _, f := range fs {
			f()
		}
		return nil
	}
}

// sumBlocks is the most blocks that a sum over rows is cut into.
const sumBlocks = 32

// sumBlock is the number of rows in a block of a sum over n rows, a multiple of rowBlock.
func sumBlock(n int) int { return rowBlock * max(1, blocks(n, rowBlock*sumBlocks)) }

// rowSum is a sum over rows: each block of rows adds to a part of its own, and the parts are added in order.
type rowSum struct {
	width int
	block int // rows in a block
	parts []float32
}

// newRowSum takes the memory for sums of the given width over n rows.
func newRowSum(a *args, n, width int) *rowSum {
	s := &rowSum{width: width, block: sumBlock(n)}
	s.parts = a.scratch(blocks(n, s.block) * width)
	return s
}

// part is the cleared part of the block that starts at row lo.
func (s *rowSum) part(lo int) []float32 {
	p := s.parts[lo/s.block*s.width:][:s.width]
	clear(p)
	return p
}

// total writes the sum to dst.
func (s *rowSum) total(dst []float32) {
	clear(dst)
	simd.SumRows(dst, s.parts)
}

// part is the i-th part of n elements of x, nil of nil.
func part[T any](x []T, i, n int) []T {
	if x == nil {
		return nil
	}
	return x[i*n : (i+1)*n : (i+1)*n]
}
