//go:build !unix

package shard

import (
	"io"
	"os"
)

// readFile reads a file into memory, where it cannot be mapped.
func readFile(f *os.File, size int) (data []byte, release func() error, err error) {
	data = make([]byte, size)
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, nil, err
	}
	return data, func() error { return nil }, nil
}
