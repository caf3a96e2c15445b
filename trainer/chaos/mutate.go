package chaos

import (
	"encoding/binary"
	"slices"

	"jambalaya/internal/prng"
)

// extremes are numbers that sizes and offsets are replaced by.
var extremes = []uint64{0, 1, 1 << 15, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 40, 1<<63 - 1, 1 << 63, 1<<64 - 1}

// mutate returns a changed copy: one to eight changes of bits, bytes, numbers and
// lengths.
func mutate(good []byte, chance *prng.Rand) []byte {
	b := slices.Clone(good)
	for range 1 + chance.IntN(8) {
		if len(b) == 0 {
			return b
		}
		at := chance.IntN(len(b))
		length := min(1+chance.IntN(64), len(b)-at)
		switch chance.IntN(8) {
		case 0:
			b[at] ^= 1 << chance.IntN(8)
		case 1:
			b[at] = byte(chance.IntN(256))
		case 2:
			b = slices.Delete(b, at, at+length)
		case 3:
			b = slices.Insert(b, at, b[at:at+length]...)
		case 4:
			b = b[:at]
		case 5, 6:
			writeNumber(b[at:], extremes[chance.IntN(len(extremes))], chance.IntN(2) == 0)
		case 7:
			from := b[chance.IntN(len(b)):]
			copy(b[at:], from[:min(length, len(from))])
		}
	}
	return b
}

// writeNumber overwrites up to 8 bytes, or the decimal digits that stand there.
func writeNumber(b []byte, n uint64, wide bool) {
	switch {
	case b[0] >= '0' && b[0] <= '9':
		for i := 0; i < len(b) && b[i] >= '0' && b[i] <= '9'; i++ {
			b[i] = '9'
		}
	case wide && len(b) >= 8:
		binary.LittleEndian.PutUint64(b, n)
	case len(b) >= 4:
		binary.LittleEndian.PutUint32(b, uint32(n))
	}
}
