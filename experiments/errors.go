package experiments

import "errors"

var (
	// ErrGrid marks a grid that cannot be run as described.
	ErrGrid = errors.New("this grid cannot be run")
	// ErrOtherGrid marks a folder that holds something else than this grid.
	ErrOtherGrid = errors.New("the folder is of another grid")
	// ErrIncomplete is returned when cells have failed; the others are reported.
	ErrIncomplete = errors.New("the grid is not complete")
)
