package cuda

import (
	"fmt"
	"unsafe"

	"jambalaya/internal/engine"
)

// tensorMap describes a tensor of bf16 to Hopper's copy engine: StructMap of
// hopper.cuh. Tiles of `box` elements are copied, their lines of 64 swizzled; what
// lies outside the extents is read as zero. dims are extents, the innermost first,
// and strides the bytes from one to the next in all but the first, multiples of 16.
func (a *args) tensorMap(t *engine.Tensor, dims, strides, box []int) []byte {
	buffer := make([]byte, mapBytes+mapAlign)
	skip := -uintptr(unsafe.Pointer(&buffer[0])) % mapAlign
	m := buffer[skip : skip+mapBytes]
	if a.sizing || a.b.dry || a.err != nil {
		return m
	}
	const (
		bfloat16    = 9 // CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
		plain       = 0 // CU_TENSOR_MAP_INTERLEAVE_NONE
		swizzled    = 3 // CU_TENSOR_MAP_SWIZZLE_128B
		promote     = 3 // CU_TENSOR_MAP_L2_PROMOTION_L2_256B
		zeroOutside = 0 // CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE
	)
	rank := len(dims)
	extents, steps, tile, ones := make([]uint64, rank), make([]uint64, rank), make([]uint32, rank), make([]uint32, rank)
	for i := range dims {
		extents[i], tile[i], ones[i] = uint64(dims[i]), uint32(box[i]), 1
		if i > 0 {
			steps[i-1] = uint64(strides[i-1])
		}
	}
	defer a.b.enter()() // the driver asks which device the tensor is on
	status := syscall(a.b.driver.encodeTiled, uintptr(unsafe.Pointer(&m[0])), bfloat16, uintptr(rank), uintptr(at(t)),
		uintptr(unsafe.Pointer(&extents[0])), uintptr(unsafe.Pointer(&steps[0])), uintptr(unsafe.Pointer(&tile[0])), uintptr(unsafe.Pointer(&ones[0])),
		plain, swizzled, promote, zeroOutside)
	a.fail(a.b.driver.check(fmt.Sprintf("describe a tensor of %v in tiles of %v", dims, box), status))
	return m
}

const (
	mapBytes = 128
	mapAlign = 64
)

// hopper says whether the device is of the one generation that has the instructions
// of hopper.cuh.
func (b *Backend) hopper() bool { return b.device.major == hopperMajor }

const hopperMajor = 9
