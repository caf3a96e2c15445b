package shard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

// expand returns a compressed buffer's contents: its length, -1 if what follows is
// not compressed, then a zstd frame. Memory grows with what is really there, not
// with what a length claims.
func expand(data []byte, size int64) ([]byte, error) {
	if len(data) < 8 {
		return nil, errBounds
	}
	length := int64(binary.LittleEndian.Uint64(data))
	data = data[8:]
	if length == -1 {
		length = int64(len(data))
	} else {
		var err error
		if data, err = expandFrame(data, size); err != nil {
			return nil, fmt.Errorf("expand: %w", err)
		}
	}
	if length < size || int64(len(data)) < size {
		return nil, errBounds
	}
	return data[:size], nil
}

func expandFrame(data []byte, size int64) ([]byte, error) {
	frame, err := zstd.NewReader(bytes.NewReader(data), zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(1<<30))
	if err != nil {
		return nil, err
	}
	defer frame.Close()
	var out bytes.Buffer
	// Real shards shrink to a half; the first guess saves most of the growing.
	out.Grow(int(min(size, 4*int64(len(data)))))
	n, err := io.Copy(&out, io.LimitReader(frame, size))
	if err == nil && n < size {
		err = errors.New("it is cut short")
	}
	return out.Bytes(), err
}
