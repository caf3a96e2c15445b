package simd

// PeakFMA runs about loops rounds of multiply-adds that touch no memory and returns the floating point
// operations done: the ceiling that products are measured against. The plain Go level has no such loop and
// returns 0.
func PeakFMA(loops int) int {
	const avx512Flops, avx2Flops = 16 * 16 * 2, 12 * 8 * 2 // accumulators * lanes * (multiply, add)
	switch current {
	case levelAVX512:
		peakAVX512(int64(loops))
		return loops * avx512Flops
	case levelAVX2:
		peakAVX2(int64(loops))
		return loops * avx2Flops
	}
	return 0
}
