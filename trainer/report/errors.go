package report

import "errors"

var (
	// ErrDamaged marks a metrics file with a line that no run wrote.
	ErrDamaged = errors.New("damaged metrics file")

	// ErrOrder marks a line whose step is not after that of the last line.
	ErrOrder = errors.New("steps out of order")
)
