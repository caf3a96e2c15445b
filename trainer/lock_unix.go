//go:build unix

package trainer

import (
	"os"

	"golang.org/x/sys/unix"
)

// tryLock takes an exclusive lock that the system drops when the process ends,
// however it ends.
func tryLock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }
