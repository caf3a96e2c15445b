package cuda

import (
	"encoding/binary"
	"fmt"
	"math"

	"jambalaya/internal/engine"
)

// structure lays values out as a C structure of 8-byte members and floats: a
// tensor or address for a pointer, int for index_t, float64 for double and, as
// the last, float32 for float.
func structure(members ...any) []byte {
	var b []byte
	for _, m := range members {
		switch m := m.(type) {
		case *engine.Tensor:
			b = binary.LittleEndian.AppendUint64(b, uint64(at(m)))
		case address:
			b = binary.LittleEndian.AppendUint64(b, uint64(m))
		case int:
			b = binary.LittleEndian.AppendUint64(b, uint64(int64(m)))
		case float64:
			b = binary.LittleEndian.AppendUint64(b, math.Float64bits(m))
		case float32:
			b = binary.LittleEndian.AppendUint64(b, uint64(math.Float32bits(m)))
		default:
			panic(fmt.Sprintf("cuda: %T in a structure", m))
		}
	}
	return b
}
