package parallel

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// Kind is what a collective operation does.
type Kind uint8

// The operations.
const (
	KindAllReduce Kind = iota + 1
	KindReduceScatter
	KindAllGather
	KindAllToAll
	KindBroadcast
	KindBarrier
)

var kindNames = [...]string{"", "all-reduce", "reduce-scatter", "all-gather", "all-to-all", "broadcast", "barrier"}

func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return fmt.Sprintf("operation kind %d", uint8(k))
	}
	return kindNames[k]
}

// Sizes of what crosses a wire.
const (
	MaxChunkBytes = 1 << 20 // of a payload
	HeaderBytes   = 64
)

// Header says what a message belongs to. The first five fields are the same in all
// messages of an operation.
type Header struct {
	Run        uint64 // hash of the run's id
	Generation uint64
	Step       int64
	Operation  uint32 // counted from 0 in each group
	Kind       Kind
	Chunk      uint32 // counted from 0 in each operation and pair of ranks
	Total      uint64 // bytes of the part of the data that the chunk is cut from
	Sent       uint32 // microseconds of the sender's clock, of which only differences count; 0: not known
}

// Message is a chunk of the data of an operation. Whoever has it owns Payload, and
// gives it on or frees it.
type Message struct {
	Header
	Payload *Buffer // nil: no bytes
}

// Bytes returns the payload's content.
func (m Message) Bytes() []byte {
	if m.Payload == nil {
		return nil
	}
	return m.Payload.Data
}

const magic = 0x01424d4a // "JMB" and the version, 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Encode writes the message's header, with the checksums of payload and header, to
// the first HeaderBytes of b. Numbers are little-endian, as is the payload.
func (m Message) Encode(b []byte) {
	le := binary.LittleEndian
	payload := m.Bytes()
	le.PutUint32(b, magic)
	b[4], b[5], b[6], b[7] = byte(m.Kind), 0, 0, 0
	le.PutUint64(b[8:], m.Run)
	le.PutUint64(b[16:], m.Generation)
	le.PutUint64(b[24:], uint64(m.Step))
	le.PutUint32(b[32:], m.Operation)
	le.PutUint32(b[36:], m.Chunk)
	le.PutUint64(b[40:], m.Total)
	le.PutUint32(b[48:], uint32(len(payload)))
	le.PutUint32(b[52:], Checksum(0, payload))
	le.PutUint32(b[56:], m.Sent)
	le.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
}

// DecodeHeader reads what Encode wrote, and returns the size and Checksum that the
// payload must have. Nothing is trusted before the header's own checksum holds.
func DecodeHeader(b []byte) (h Header, size int, sum uint32, err error) {
	le := binary.LittleEndian
	switch {
	case len(b) < HeaderBytes:
		return h, 0, 0, fmt.Errorf("%w: %d bytes are less than a header", ErrCorrupt, len(b))
	case le.Uint32(b) != magic:
		return h, 0, 0, fmt.Errorf("%w: it starts with %#x", ErrCorrupt, le.Uint32(b))
	case le.Uint32(b[60:]) != crc32.Checksum(b[:60], castagnoli):
		return h, 0, 0, fmt.Errorf("%w: checksum of the header", ErrCorrupt)
	case le.Uint32(b[48:]) > MaxChunkBytes:
		return h, 0, 0, fmt.Errorf("%w: payload of %d bytes", ErrCorrupt, le.Uint32(b[48:]))
	}
	h = Header{
		Kind:       Kind(b[4]),
		Run:        le.Uint64(b[8:]),
		Generation: le.Uint64(b[16:]),
		Step:       int64(le.Uint64(b[24:])),
		Operation:  le.Uint32(b[32:]),
		Chunk:      le.Uint32(b[36:]),
		Total:      le.Uint64(b[40:]),
		Sent:       le.Uint32(b[56:]),
	}
	return h, int(le.Uint32(b[48:])), le.Uint32(b[52:]), nil
}

// Checksum continues the checksum of a payload, which starts as 0.
func Checksum(sum uint32, b []byte) uint32 { return crc32.Update(sum, castagnoli, b) }
