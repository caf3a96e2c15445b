package parallel

import "slices"

// Partition cuts a sequence of tensors into n runs of whole tensors whose largest
// is as small as it can be, and returns the n+1 cuts as offsets in elements. It
// says which rank holds the optimiser state of which tensors (ZeRO-1).
func Partition(sizes []int, n int) []int {
	total := 0
	for _, s := range sizes {
		total += s
	}
	if len(sizes) == 0 {
		return make([]int, n+1)
	}
	// The least limit for which n runs are enough.
	lo, hi := slices.Max(sizes), total
	for lo < hi {
		if limit := (lo + hi) / 2; len(fill(sizes, limit)) <= n {
			hi = limit
		} else {
			lo = limit + 1
		}
	}
	cuts := make([]int, 1, n+1)
	for _, run := range fill(sizes, lo) {
		cuts = append(cuts, cuts[len(cuts)-1]+run)
	}
	for len(cuts) < n+1 {
		cuts = append(cuts, total)
	}
	return cuts
}

// fill returns the sizes of runs filled up to limit one after the other; no tensor
// is larger.
func fill(sizes []int, limit int) []int {
	var runs []int
	for _, s := range sizes {
		if len(runs) == 0 || runs[len(runs)-1]+s > limit {
			runs = append(runs, s)
		} else {
			runs[len(runs)-1] += s
		}
	}
	return runs
}

// Span is a range [Lo, Hi) of elements of a flat buffer.
type Span struct{ Lo, Hi int }

// even cuts n elements into parts that differ by one at most.
func even(n, parts int) []int {
	counts := make([]int, parts)
	for i := range counts {
		counts[i] = n*(i+1)/parts - n*i/parts
	}
	return counts
}

// offsets returns the running sums of counts: part i is [offsets[i], offsets[i+1]).
func offsets(counts []int) []int {
	sums := make([]int, 1, len(counts)+1)
	for _, c := range counts {
		sums = append(sums, sums[len(sums)-1]+c)
	}
	return sums
}
