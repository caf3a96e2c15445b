package simd

import "errors"

var (
	// ErrLevel means that a level name is unknown or that this machine cannot run it.
	ErrLevel = errors.New("simd: level not available")
	// ErrShape means that a slice is too short for the shape it is given with.
	ErrShape = errors.New("simd: slice too short for its shape")
)
