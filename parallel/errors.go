package parallel

import (
	"errors"
	"fmt"
)

var (
	// ErrGeneration is returned to a rank whose message or connection belongs to
	// another generation than that of the rank it talks to: it has been replaced,
	// and must not go on.
	ErrGeneration = errors.New("another generation")
	// ErrAborted is returned from every operation once a rank has given up.
	ErrAborted = errors.New("aborted")
	// ErrMismatch is returned when two ranks of a group do not run the same
	// operation, or do not agree on its size.
	ErrMismatch = errors.New("the ranks do not run the same operation")
	// ErrArgument marks an operation that cannot be run as called.
	ErrArgument = errors.New("invalid argument")
	// ErrCorrupt marks a message that is not what was sent.
	ErrCorrupt = errors.New("corrupt message")
	// ErrLost is returned when the connection to a rank broke or the rank left.
	ErrLost = errors.New("rank lost")
	// ErrTimeout is returned when a rank did not answer within the deadline of a
	// group.
	ErrTimeout = errors.New("no answer")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("closed")
)

// EndsGeneration says whether an error means that the ranks do not work together any
// more: those that are left join another generation.
func EndsGeneration(err error) bool {
	for _, over := range []error{ErrLost, ErrTimeout, ErrAborted, ErrGeneration, ErrCorrupt, ErrClosed} {
		if errors.Is(err, over) {
			return true
		}
	}
	return false
}

// OpError says which operation failed, and on which rank.
type OpError struct {
	Kind  Kind
	Group string
	Name  string
	Step  int64
	Rank  int // in the world
	Err   error
}

func (e *OpError) Error() string {
	return fmt.Sprintf("%s %q of group %s in step %d on rank %d: %v", e.Kind, e.Name, e.Group, e.Step, e.Rank, e.Err)
}

func (e *OpError) Unwrap() error { return e.Err }

// AbortError is what the other ranks get when one gives up.
type AbortError struct {
	Rank   int    // that gave up, in the world
	Reason string // its own error
}

func (e *AbortError) Error() string { return fmt.Sprintf("aborted by rank %d: %s", e.Rank, e.Reason) }

// Is makes the error match ErrAborted.
func (e *AbortError) Is(target error) bool { return target == ErrAborted }

func argument(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrArgument, fmt.Sprintf(format, args...))
}
