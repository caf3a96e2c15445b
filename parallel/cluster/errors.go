package cluster

import "errors"

var (
	// ErrHeld is returned to who wants a lease that another holds.
	ErrHeld = errors.New("another coordinator holds the lease")
	// ErrDeposed is returned to a coordinator whose lease has passed to another.
	ErrDeposed = errors.New("the lease has passed to another coordinator")
	// ErrFenced is returned to a rank of an earlier generation that is about to
	// publish something.
	ErrFenced = errors.New("a newer generation has replaced this one")
	// ErrMessage marks what is not a message of the control stream.
	ErrMessage = errors.New("malformed control message")
	// ErrLog marks a log of generations that cannot be used.
	ErrLog = errors.New("log of generations")
)
