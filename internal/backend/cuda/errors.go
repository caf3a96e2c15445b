package cuda

import "errors"

var (
	// ErrUnavailable says that this machine has no GPU that the package can use:
	// a library, the driver or a recent enough device is missing.
	ErrUnavailable = errors.New("no usable NVIDIA GPU")

	// ErrOutOfMemory is returned by Alloc when the device cannot hold a plan.
	ErrOutOfMemory = errors.New("out of GPU memory")

	// ErrDevice says that the device failed while it ran; the backend is of no
	// further use, what has been saved is intact.
	ErrDevice = errors.New("the GPU failed")

	// ErrData says that an operator met data it cannot take, a token outside the
	// vocabulary for example.
	ErrData = errors.New("bad data")
)
