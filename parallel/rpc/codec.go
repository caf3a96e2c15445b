package rpc

import (
	"fmt"
	"io"
	"time"

	"google.golang.org/grpc/mem"

	"jambalaya/parallel"
)

// codec writes *parallel.Message as its header and payload, as they are, and reads
// *received.
type codec struct{}

// received is a message, or what is wrong with it. gRPC would lose the error's
// identity.
type received struct {
	parallel.Message
	err error
}

func (codec) Name() string { return "jambalaya" }

func (codec) Marshal(v any) (mem.BufferSlice, error) {
	m, ok := v.(*parallel.Message)
	if !ok {
		return nil, fmt.Errorf("cannot send %T", v)
	}
	header := make([]byte, parallel.HeaderBytes)
	m.Sent = max(clock(time.Now()), 1)
	m.Encode(header)
	slice := mem.BufferSlice{mem.SliceBuffer(header)}
	if m.Payload != nil {
		slice = append(slice, mem.NewBuffer(&m.Payload.Data, release{m.Payload}))
		m.Payload = nil
	}
	return slice, nil
}

func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	in, ok := v.(*received)
	if !ok {
		return fmt.Errorf("cannot receive %T", v)
	}
	in.Message, in.err = decode(data)
	return nil
}

// decode copies a message out of gRPC's memory. It allocates nothing before the
// header has been checked.
func decode(data mem.BufferSlice) (m parallel.Message, err error) {
	r := data.Reader()
	defer r.Close()
	var header [parallel.HeaderBytes]byte
	n, err := io.ReadFull(r, header[:])
	if err != nil {
		return m, fmt.Errorf("%w: %d bytes are less than a header", parallel.ErrCorrupt, n)
	}
	h, size, sum, err := parallel.DecodeHeader(header[:])
	if err != nil {
		return m, err
	}
	if size != r.Remaining() {
		return m, fmt.Errorf("%w: payload of %d bytes, not %d", parallel.ErrCorrupt, r.Remaining(), size)
	}
	m.Header = h
	if size > 0 {
		m.Payload = parallel.NewBuffer(size)
	}
	// Piece by piece, while a piece is in the processor's cache.
	got := uint32(0)
	for rest := m.Bytes(); len(rest) > 0; {
		n, err := r.Read(rest[:min(len(rest), 16<<10)])
		if err != nil {
			return m, fmt.Errorf("%w: %v", parallel.ErrCorrupt, err)
		}
		got = parallel.Checksum(got, rest[:n])
		rest = rest[n:]
	}
	if got != sum {
		m.Payload.Free()
		m.Payload = nil
		return m, fmt.Errorf("%w: checksum of the payload", parallel.ErrCorrupt)
	}
	return m, nil
}

// release gives a payload back when gRPC has written it.
type release struct{ buffer *parallel.Buffer }

func (release) Get(n int) *[]byte {
	b := make([]byte, n)
	return &b
}

func (r release) Put(*[]byte) { r.buffer.Free() }
