package simd

import "errors"

// ErrLevel means that a level name is unknown or that this machine cannot run it.
var ErrLevel = errors.New("simd: level not available")
