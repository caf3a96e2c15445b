package cluster

import (
	"fmt"

	"jambalaya/internal/vfs"
)

// Fence returns nil if a rank of a generation may publish: no later generation is
// recorded in the run's directory, and no later term of the lease taken. Otherwise
// the error wraps ErrFenced. It is asked right before the step that publishes.
//
// Between the answer and that step the process may be stopped and replaced. The
// step itself must therefore fail once a later generation has begun, which it does
// if that generation first clears away what earlier ones have not published: a
// rename then has nothing left to rename.
func Fence(fsys vfs.FS, dir string, generation, term uint64) error {
	log, err := ReadLog(fsys, dir)
	if err != nil {
		return err
	}
	last := log.Last()
	if last == nil || last.Number != generation || last.Term != term {
		recorded := "none"
		if last != nil {
			recorded = fmt.Sprintf("generation %d of term %d", last.Number, last.Term)
		}
		return fmt.Errorf("%w: this is generation %d of term %d, recorded is %s", ErrFenced, generation, term, recorded)
	}
	highest, err := highestTerm(fsys, dir)
	if err != nil {
		return err
	}
	if highest > term {
		return fmt.Errorf("%w: this is term %d, there is a term %d", ErrFenced, term, highest)
	}
	return nil
}
