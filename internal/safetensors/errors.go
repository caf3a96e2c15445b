package safetensors

import (
	"errors"
	"fmt"
)

var (
	// ErrFormat marks a file that is not a well-formed safetensors file.
	ErrFormat = errors.New("not a valid safetensors file")
	// ErrNoTensor is returned when a file has no tensor of that name.
	ErrNoTensor = errors.New("no such tensor")
	// ErrType is returned when a tensor's type does not convert to the one asked for.
	ErrType = errors.New("wrong type of tensor")
)

func formatError(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
}
