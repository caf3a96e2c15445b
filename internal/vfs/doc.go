// Package vfs is the small file system through which everything that must
// survive a crash is written, so that tests can fail it, kill it and cut its power
// at every operation.
//
//	fsys, err := vfs.Dir("runs/nano") // the real thing, confined to that directory
//	mem := vfs.NewMem()               // in memory; mem.Crash is a power cut
//	faulty := vfs.NewFaults(mem, vfs.FailAt(17, syscall.ENOSPC))
//
// # Invariants
//
// Names are slash-separated and relative to the root of the file system; "." is
// the root, and none escapes it, through symbolic links neither (os.Root). Create
// never overwrites. Rename is atomic, and renaming a directory to the name of one
// that has entries fails with fs.ErrExist: that is the conditional create with
// which checkpoints are published.
//
// What was written is durable only after Sync of the file and SyncDir of the
// directory that names it. Mem takes this at its word: Crash drops or tears what
// was not synced.
//
// # Failures
//
// Errors are those of package fs (fs.ErrNotExist, fs.ErrExist and so on, as
// *fs.PathError or *os.LinkError). Nothing panics. Every FS here may be used by
// several goroutines at once; a File by one writer.
package vfs
