package simd

import "unsafe"

// comparedExperts is how many experts each assignment is compared with at most.
const comparedExperts = 32

// ExpertCount sets counts[e] to the assignments in index that go to expert e. Those to none of them do not count.
func ExpertCount(counts, index []int32) {
	if count := rows().count; count != nil && len(counts) <= comparedExperts {
		for e := range counts {
			counts[e] = int32(count(index, int32(e)))
		}
		return
	}
	clear(counts)
	for _, e := range index {
		if uint(e) < uint(len(counts)) {
			counts[e]++
		}
	}
}

// ExpertPlace orders the assignments of index, which are numbered from first on, by expert, stably: slot[i] is the
// row of assignment first+i and source[row] the assignment of a row. next[e] is the next row of expert e, before and
// after; every expert must be in [0, len(next)), and every row in source.
func ExpertPlace(slot, source, next, index []int32, first int32) {
	slot = slot[:len(index)]
	switch r := rows(); {
	case r.place8 != nil && len(next) <= 8:
		r.place8(slot, source, next, index, first)
		return
	case r.place16 != nil && len(next) <= 16:
		r.place16(slot, source, next, index, first)
		return
	}
	for i, e := range index {
		row := next[e]
		next[e]++
		slot[i], source[row] = row, first+int32(i)
	}
}

// streamedFloats is the size from which on rows are stored past the caches, which would fetch every line that is
// overwritten: whoever reads so many rows finds the first ones in memory anyway. Tests lower it.
var streamedFloats = 1 << 22

// streamed reports whether rows of h elements are stored past the caches, which takes whole cache lines.
func streamed(x []float32, h int) bool {
	return len(x) >= streamedFloats && h%16 == 0 && uintptr(unsafe.Pointer(&x[0]))%64 == 0
}

// Dispatch copies the rows of x[T,h] to the rows slot[T,k] of xs. Other rows of xs are not touched.
func Dispatch(xs, x []float32, slot []int32, k, h int) {
	if r := rows(); r.scatter != nil && streamed(xs, h) && len(slot) > 0 {
		r.scatter(xs, x[:len(slot)/k*h], slot, k, h)
		return
	}
	for i, s := range slot {
		copy(rowOf(xs, s, h), x[i/k*h:][:h])
	}
}

// DispatchGrad is dx[t] = sum_k dxs[slot[t,k]] for the len(slot)/k tokens of slot, in the order of k.
func DispatchGrad(dx, dxs []float32, slot []int32, k, h int) {
	v := vec()
	for t := 0; t*k < len(slot); t++ {
		row, rows := dx[t*h:][:h], slot[t*k:][:k]
		if k == 1 {
			copy(row, rowOf(dxs, rows[0], h))
			continue
		}
		v.add(row, rowOf(dxs, rows[0], h), rowOf(dxs, rows[1], h))
		for _, s := range rows[2:] {
			v.add(row, row, rowOf(dxs, s, h))
		}
	}
}

// Combine is y[t] = sum_k weights[t,k] ys[slot[t,k]] for the len(slot)/k tokens of slot, in the order of k.
func Combine(y, ys, weights []float32, slot []int32, k, h int) {
	v := vec()
	for t := 0; t*k < len(slot); t++ {
		row, rows, w := y[t*h:][:h], slot[t*k:][:k], weights[t*k:][:k]
		if k == 1 {
			v.scale(row, rowOf(ys, rows[0], h), w[0])
			continue
		}
		v.combine2(row, rowOf(ys, rows[0], h), rowOf(ys, rows[1], h), w[0], w[1])
		for i, s := range rows[2:] {
			v.axpy(row, rowOf(ys, s, h), w[i+2])
		}
	}
}

// CombineGrad is dys[slot[t,k]] = weights[t,k] dy[t] and dweights[t,k] = ys[slot[t,k]] . dy[t] for the tokens of
// slot; the rows of dys that belong to other tokens are not touched. dys or dweights may be nil.
func CombineGrad(dys, dweights, ys, weights, dy []float32, slot []int32, k, h int) {
	if r := rows(); r.combineGrad != nil && dweights != nil && streamed(dys, h) && len(slot) > 0 {
		r.combineGrad(dys, dweights[:len(slot)], ys, weights[:len(slot)], dy[:len(slot)/k*h], slot, k, h)
		return
	}
	v := vec()
	for i, s := range slot {
		row := dy[i/k*h:][:h]
		if dweights != nil {
			dweights[i] = v.dot(rowOf(ys, s, h), row)
		}
		if dys != nil {
			v.scale(rowOf(dys, s, h), row, weights[i])
		}
	}
}

// rowOf is row i of a matrix of h columns.
func rowOf(x []float32, i int32, h int) []float32 { return x[int(i)*h:][:h] }
