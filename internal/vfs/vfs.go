package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
)

// FS is a file system with the operations that durable writing needs.
type FS interface {
	// Create makes a file that did not exist before, open for writing.
	Create(name string) (File, error)
	// Append opens a file for writing at its end, and makes it if there is none.
	// What several processes append in one Write each does not mix.
	Append(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// Mkdir makes one directory that did not exist before.
	Mkdir(name string) error
	// ReadDir lists a directory, sorted by name.
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)
	// Rename moves a file, replacing another, or a directory, but not onto one
	// that has entries.
	Rename(oldname, newname string) error
	// Remove deletes a file or an empty directory.
	Remove(name string) error
	// SyncDir makes the entries of a directory durable.
	SyncDir(name string) error
}

// File is an open file: for writing at its end (Create, Append) or for reading (Open).
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	// Sync makes the contents durable.
	Sync() error
	Stat() (fs.FileInfo, error)
}

// ErrTooLarge is returned by ReadFile for a file above its limit.
var ErrTooLarge = errors.New("file is too large")

// ReadFile returns the contents of a file of at most limit bytes. It asks for the
// size first, so that a huge file costs nothing.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, fmt.Errorf("%s: %w: %d bytes, at most %d are read", name, ErrTooLarge, info.Size(), limit)
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return data, nil
}

// WriteFile creates a file with these contents and syncs it. Its directory entry
// becomes durable with the next SyncDir.
func WriteFile(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	if _, err := f.Write(data); err != nil {
		f.Close()
		return err
	}
	return SyncClose(f)
}

// SyncClose syncs a file and closes it in any case.
func SyncClose(f File) error {
	err := f.Sync()
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	return err
}

// MkdirAll makes a directory and its missing parents, and makes them durable.
func MkdirAll(fsys FS, name string) error {
	if info, err := fsys.Stat(name); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: name, Err: errors.New("in its place is something that is not a directory (links are not followed)")}
		}
		return nil
	}
	parent := path.Dir(name)
	if parent != "." {
		if err := MkdirAll(fsys, parent); err != nil {
			return err
		}
	}
	if err := fsys.Mkdir(name); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return fsys.SyncDir(parent)
}

// RemoveAll deletes a file or a directory with everything in it. It is no error
// if there is none, or if another process deletes it at the same time. A crash may leave a part: rename to a name that no reader
// looks at first.
func RemoveAll(fsys FS, name string) error {
	info, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.IsDir() {
		entries, err := fsys.ReadDir(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if err := RemoveAll(fsys, path.Join(name, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := fsys.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
