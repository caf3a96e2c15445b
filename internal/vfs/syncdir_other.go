//go:build !unix

package vfs

// SyncDir does nothing where directories cannot be synced: there the file
// system's own journal has to keep their entries.
func (d *DirFS) SyncDir(string) error { return nil }
