package safetensors

import (
	"math"
	"unsafe"
)

// DType is the type of a tensor's elements, by its name in the format.
type DType string

// The types of the format, as the reference implementation spells them.
const (
	Bool   DType = "BOOL"
	U8     DType = "U8"
	I8     DType = "I8"
	F8E5M2 DType = "F8_E5M2"
	F8E4M3 DType = "F8_E4M3"
	I16    DType = "I16"
	U16    DType = "U16"
	F16    DType = "F16"
	BF16   DType = "BF16"
	I32    DType = "I32"
	U32    DType = "U32"
	F32    DType = "F32"
	F64    DType = "F64"
	I64    DType = "I64"
	U64    DType = "U64"
)

// Size is the number of bytes of an element, 0 if the type is unknown.
func (d DType) Size() int64 {
	switch d {
	case Bool, U8, I8, F8E5M2, F8E4M3:
		return 1
	case I16, U16, F16, BF16:
		return 2
	case I32, U32, F32:
		return 4
	case F64, I64, U64:
		return 8
	}
	return 0
}

// ByteSize is the number of bytes of a tensor; ok is false if the type is unknown,
// a dimension is negative or the product overflows.
func ByteSize(d DType, shape []int64) (n int64, ok bool) {
	n = d.Size()
	if n == 0 {
		return 0, false
	}
	empty := false
	for _, dim := range shape {
		switch {
		case dim < 0:
			return 0, false
		case dim == 0:
			empty = true
		case n > math.MaxInt64/dim:
			return 0, false
		default:
			n *= dim
		}
	}
	if empty {
		return 0, true
	}
	return n, true
}

// number is a type whose memory is an element of a tensor.
type number interface {
	~int8 | ~uint8 | ~int16 | ~uint16 | ~int32 | ~uint32 | ~int64 | ~uint64 | ~float32 | ~float64
}

// Bytes is the memory of a slice, for Tensor.Data. It is not a copy.
func Bytes[T number](values []T) []byte {
	if len(values) == 0 {
		return nil
	}
	return unsafe.Slice((*byte)(unsafe.Pointer(&values[0])), len(values)*int(unsafe.Sizeof(values[0])))
}

// values reads data as a slice: as a view if it is aligned, else as a copy.
func values[T number](data []byte) []T {
	size := int(unsafe.Sizeof(*new(T)))
	n := len(data) / size
	if n == 0 {
		return nil
	}
	start := unsafe.Pointer(&data[0])
	if uintptr(start)%uintptr(size) == 0 {
		return unsafe.Slice((*T)(start), n)
	}
	out := make([]T, n)
	copy(Bytes(out), data)
	return out
}

// fromBF16 widens a bfloat16: the upper half of a float32.
func fromBF16(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// AppendBF16 appends values as BF16: rounded to the nearest, ties to even. What is not
// a number stays so.
func AppendBF16(dst []byte, values []float32) []byte {
	for _, v := range values {
		bits := math.Float32bits(v)
		if v != v {
			bits |= 1 << 22 // the lower half may be all that says so
		} else {
			bits += 0x7fff + bits>>16&1
		}
		dst = append(dst, byte(bits>>16), byte(bits>>24))
	}
	return dst
}

// fromF16 widens an IEEE 754 half.
func fromF16(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exponent := uint32(h>>10) & 0x1f
	fraction := uint32(h & 0x3ff)
	switch exponent {
	case 0: // zero or subnormal: fraction * 2^-24, exact in float32
		v := float32(fraction) * 0x1p-24
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31: // infinity or not a number
		return math.Float32frombits(sign | 0x7f800000 | fraction<<13)
	}
	return math.Float32frombits(sign | (exponent+112)<<23 | fraction<<13)
}
