package simd

func init() {
	rowTables[levelAVX512] = &rowKernels{normRows: normRowsAVX512, normRowsGrad: normRowsGradAVX512}
	rowTables[levelAVX2] = &rowKernels{normRows: normRowsAVX2, normRowsGrad: normRowsGradAVX2}
}
