package vfs

import (
	"errors"
	"io/fs"
	"sync/atomic"
)

// ErrKilled is what operations return after the process "died" (see FailFrom):
// no cleaning up succeeds any more.
var ErrKilled = errors.New("killed by the test")

// Op is one operation on a file system or one of its files.
type Op struct {
	N    int    // counts from 0
	Kind string // create append open mkdir readdir stat rename remove syncdir; read write sync close of a file
	Name string
}

// Faults passes operations on to another FS, but asks a function first, which may
// make the operation fail. A write that fails has written the first half.
type Faults struct {
	inner  FS
	inject func(Op) error
	count  atomic.Int64
}

// NewFaults wraps an FS. inject may be called by several goroutines at once.
func NewFaults(inner FS, inject func(Op) error) *Faults {
	return &Faults{inner: inner, inject: inject}
}

// FailAt makes operation n fail, and no other.
func FailAt(n int, err error) func(Op) error {
	return func(op Op) error {
		if op.N == n {
			return err
		}
		return nil
	}
}

// FailFrom makes operation n and all later ones fail: with ErrKilled, what a kill
// at that moment looks like to the file system.
func FailFrom(n int, err error) func(Op) error {
	return func(op Op) error {
		if op.N >= n {
			return err
		}
		return nil
	}
}

// Count is the number of operations so far.
func (f *Faults) Count() int { return int(f.count.Load()) }

func (f *Faults) step(kind, name string) error {
	n := f.count.Add(1) - 1
	if err := f.inject(Op{N: int(n), Kind: kind, Name: name}); err != nil {
		return &fs.PathError{Op: kind, Path: name, Err: err}
	}
	return nil
}

func (f *Faults) Create(name string) (File, error) {
	if err := f.step("create", name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.inner.Create(name))
}

func (f *Faults) Append(name string) (File, error) {
	if err := f.step("append", name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.inner.Append(name))
}

func (f *Faults) Open(name string) (File, error) {
	if err := f.step("open", name); err != nil {
		return nil, err
	}
	return f.wrap(name)(f.inner.Open(name))
}

func (f *Faults) wrap(name string) func(File, error) (File, error) {
	return func(file File, err error) (File, error) {
		if err != nil {
			return nil, err
		}
		return &faultyFile{File: file, fs: f, name: name}, nil
	}
}

func (f *Faults) Mkdir(name string) error {
	if err := f.step("mkdir", name); err != nil {
		return err
	}
	return f.inner.Mkdir(name)
}

func (f *Faults) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := f.step("readdir", name); err != nil {
		return nil, err
	}
	return f.inner.ReadDir(name)
}

func (f *Faults) Stat(name string) (fs.FileInfo, error) {
	if err := f.step("stat", name); err != nil {
		return nil, err
	}
	return f.inner.Stat(name)
}

func (f *Faults) Rename(oldname, newname string) error {
	if err := f.step("rename", newname); err != nil {
		return err
	}
	return f.inner.Rename(oldname, newname)
}

func (f *Faults) Remove(name string) error {
	if err := f.step("remove", name); err != nil {
		return err
	}
	return f.inner.Remove(name)
}

func (f *Faults) SyncDir(name string) error {
	if err := f.step("syncdir", name); err != nil {
		return err
	}
	return f.inner.SyncDir(name)
}

type faultyFile struct {
	File
	fs   *Faults
	name string
}

func (f *faultyFile) Read(p []byte) (int, error) {
	if err := f.fs.step("read", f.name); err != nil {
		return 0, err
	}
	return f.File.Read(p)
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.step("read", f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) Write(p []byte) (int, error) {
	if err := f.fs.step("write", f.name); err != nil {
		n, innerErr := f.File.Write(p[:len(p)/2])
		return n, errors.Join(err, innerErr)
	}
	return f.File.Write(p)
}

func (f *faultyFile) Sync() error {
	if err := f.fs.step("sync", f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

// Close always closes, as the kernel does, whatever it reports.
func (f *faultyFile) Close() error {
	err := f.fs.step("close", f.name)
	return errors.Join(err, f.File.Close())
}
