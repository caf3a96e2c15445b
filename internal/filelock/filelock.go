package filelock

import (
	"context"
	"errors"
	"os"
	"time"
)

// ErrHeld is returned by Try for a lock that another process, or another part of this
// one, has.
var ErrHeld = errors.New("the lock is held by another process")

// again is how long Wait waits between two tries.
const again = 100 * time.Millisecond

// Try takes the lock of a file, which is made if there is none. Close gives it back.
func Try(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o666)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Wait is Try that waits until the lock is free, or the context ends.
func Wait(ctx context.Context, name string) (*os.File, error) {
	for {
		f, err := Try(name)
		if !errors.Is(err, ErrHeld) {
			return f, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(again):
		}
	}
}
