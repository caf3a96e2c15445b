package parallel

import (
	"bytes"
	"errors"
	"testing"
)

func encoded(payload string) ([]byte, Header) {
	h := Header{Run: 1 << 60, Generation: 3, Step: -4, Operation: 5, Kind: KindBroadcast, Chunk: 6, Total: 1 << 40}
	m := Message{Header: h, Payload: NewBuffer(len(payload))}
	copy(m.Payload.Data, payload)
	b := make([]byte, HeaderBytes, HeaderBytes+len(payload))
	m.Encode(b)
	return append(b, payload...), h
}

func decode(b []byte) (Header, error) {
	h, size, sum, err := DecodeHeader(b)
	if err == nil && (len(b)-HeaderBytes != size || Checksum(0, b[HeaderBytes:]) != sum) {
		err = ErrCorrupt
	}
	return h, err
}

// TestMessage flips every bit of a message and cuts it everywhere.
func TestMessage(t *testing.T) {
	t.Parallel()
	b, want := encoded("gradients")
	if got, err := decode(b); err != nil || got != want {
		t.Fatalf("%+v, %v, want %+v", got, err, want)
	}
	for i := range 8 * len(b) {
		b[i/8] ^= 1 << (i % 8)
		if _, err := decode(b); !errors.Is(err, ErrCorrupt) {
			t.Errorf("bit %d flipped: %v", i, err)
		}
		b[i/8] ^= 1 << (i % 8)
	}
	for n := range b {
		if _, err := decode(b[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

// FuzzDecodeHeader: what decodes, encodes to the same bytes.
func FuzzDecodeHeader(f *testing.F) {
	b, _ := encoded("gradients")
	f.Add(b)
	f.Add(b[:40])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := decode(b)
		if err != nil {
			return
		}
		again := make([]byte, HeaderBytes)
		Message{Header: h, Payload: &Buffer{Data: b[HeaderBytes:]}}.Encode(again)
		if !bytes.Equal(again, b[:HeaderBytes]) {
			t.Fatalf("%+v of\n%x becomes\n%x", h, b[:HeaderBytes], again)
		}
	})
}
