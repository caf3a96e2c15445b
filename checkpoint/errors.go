package checkpoint

import (
	"errors"
	"fmt"
	"io/fs"
	"syscall"
)

var (
	// ErrCorrupt marks a checkpoint that is not what was written: a file is
	// missing, cut or changed.
	ErrCorrupt = errors.New("corrupt")
	// ErrFormat marks a checkpoint of a format version that this program does not
	// read.
	ErrFormat = errors.New("unknown format version")
	// ErrNone is returned when there is no checkpoint that verifies.
	ErrNone = errors.New("no checkpoint")
	// ErrGone is returned when a checkpoint was deleted while it was read: the run
	// it belongs to is going on and has newer ones.
	ErrGone = errors.New("deleted meanwhile")
	// ErrExists is returned when a checkpoint of the step is already published.
	ErrExists = errors.New("already published")
	// ErrFenced is returned when a newer generation has taken over: this process
	// must not publish any more.
	ErrFenced = errors.New("a newer generation has taken over")
	// ErrGivenUp is returned after too many failed saves in a row.
	ErrGivenUp = errors.New("too many checkpoints in a row could not be saved")
	// ErrNoTensor is returned when a checkpoint has no tensor of that name.
	ErrNoTensor = errors.New("no such tensor")
	// ErrSnapshot marks a snapshot that cannot be saved as given, or a slice that
	// a tensor does not have: a mistake of the caller.
	ErrSnapshot = errors.New("invalid snapshot")
)

// advice adds to an error of the disk what the user can do about it.
func advice(err error) error {
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fmt.Errorf("%w; free some space or lower checkpoint.keep", err)
	case errors.Is(err, syscall.EROFS), errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; make the directory writable or choose another one", err)
	}
	return err
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSnapshot, fmt.Sprintf(format, args...))
}
