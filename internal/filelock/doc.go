// Package filelock keeps processes apart by locks on files:
//
//	lock, err := filelock.Try("runs/nano/.lock") // ErrHeld: by another process
//	lock, err := filelock.Wait(ctx, "runs/data/.lock")
//	defer lock.Close()
//
// A lock ends with its process, however that ends; the file stays. Where the system has
// no such locks (it is not Unix), all of them are granted: to keep processes apart is up
// to the user then.
package filelock
