package parallel

import (
	"math/bits"
	"sync"
	"unsafe"
)

// Buffer is pooled memory for a payload.
type Buffer struct {
	Data []byte
	pool *sync.Pool
}

// pools holds free buffers by the power of two that they have room for.
var pools [bits.UintSize]sync.Pool

// NewBuffer returns a buffer of n bytes of any content.
func NewBuffer(n int) *Buffer {
	// At least 64 bytes: Go aligns those to 8, as views of numbers need.
	class := bits.Len(uint(max(n, 64) - 1))
	pool := &pools[class]
	if b, ok := pool.Get().(*Buffer); ok {
		b.Data = b.Data[:n]
		return b
	}
	return &Buffer{Data: make([]byte, n, 1<<class), pool: pool}
}

// Free gives the memory back. Freeing nil does nothing.
func (b *Buffer) Free() {
	if b != nil {
		b.pool.Put(b)
	}
}

// Row is a type whose values cross ranks as they lie in memory, which is
// little-endian on every machine this program is built for.
type Row interface {
	~uint8 | ~uint16 | ~int32 | ~uint32 | ~int64 | ~float32
}

// bytesOf views numbers as the bytes they are.
func bytesOf[T Row](x []T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), len(x)*sizeOf[T]())
}

// floatsOf views the bytes of a buffer as numbers.
func floatsOf(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

func sizeOf[T Row]() int {
	var zero T
	return int(unsafe.Sizeof(zero))
}
