package report

import (
	"errors"
	"fmt"
	"syscall"
)

var (
	// ErrDamaged marks a metrics file with a line that no run wrote.
	ErrDamaged = errors.New("damaged metrics file")

	// ErrOrder marks a line whose step is not after that of the last line.
	ErrOrder = errors.New("steps out of order")
)

// advice adds to an error of a full disk what the user can do about it.
func advice(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w; free some space and run it again", err)
	}
	return err
}
