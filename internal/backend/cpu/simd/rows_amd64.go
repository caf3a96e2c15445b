package simd

func init() {
	rowTables[levelAVX512] = &rowKernels{
		normRows:     normRowsAVX512,
		normRowsGrad: normRowsGradAVX512,
		routerTop:    [...]routerTopKernel{1: routerTop1AVX512, 2: routerTop2AVX512},
		lanes:        16,
		routerGrad:   routerGradAVX512,
		count:        countAVX512,
		place8:       place8AVX512,
		place16:      place16AVX512,
		expSums:      expSumsAVX512,
		scatter:      scatterAVX512,
		combineGrad:  combineGradAVX512,
	}
	rowTables[levelAVX2] = &rowKernels{
		normRows:     normRowsAVX2,
		normRowsGrad: normRowsGradAVX2,
		routerTop:    [...]routerTopKernel{1: routerTop1AVX2, 2: routerTop2AVX2},
		lanes:        8,
		routerGrad:   routerGradAVX2,
		count:        countAVX2,
		place8:       place8AVX2,
		place16:      place16AVX2,
		expSums:      expSumsAVX2,
		scatter:      scatterAVX2,
		combineGrad:  combineGradAVX2,
	}
}
