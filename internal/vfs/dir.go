package vfs

import (
	"io/fs"
	"os"
	"slices"
	"strings"
)

// DirFS is a directory of the operating system; see Dir.
type DirFS struct{ root *os.Root }

// Dir opens a directory that exists. No name leads out of it.
func Dir(dir string) (*DirFS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &DirFS{root}, nil
}

// Close releases the directory; files that are open stay so.
func (d *DirFS) Close() error { return d.root.Close() }

func (d *DirFS) Create(name string) (File, error) {
	return openFile(d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o666))
}

func (d *DirFS) Append(name string) (File, error) {
	return openFile(d.root.OpenFile(name, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o666))
}

func (d *DirFS) Open(name string) (File, error) { return openFile(d.root.Open(name)) }

// openFile keeps a nil *os.File out of the interface.
func openFile(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d *DirFS) Mkdir(name string) error { return d.root.Mkdir(name, 0o777) }

func (d *DirFS) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

// Stat describes the thing itself, not what a symbolic link points to, so that
// RemoveAll does not follow links.
func (d *DirFS) Stat(name string) (fs.FileInfo, error) { return d.root.Lstat(name) }

func (d *DirFS) Rename(oldname, newname string) error { return d.root.Rename(oldname, newname) }

func (d *DirFS) Remove(name string) error { return d.root.Remove(name) }
