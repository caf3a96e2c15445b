package vfs

import (
	"bytes"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

var (
	errNotDir   = errors.New("not a directory")
	errIsDir    = errors.New("is a directory")
	errNotEmpty = errors.Join(errors.New("directory not empty"), fs.ErrExist)
)

// Mem is a file system in memory that knows what a power cut would leave of it.
type Mem struct {
	mu      sync.Mutex
	root    *node
	pending []entryChange // directory operations not durable yet, in order
}

// node is a file or a directory: what it holds now, and what of it is durable.
type node struct {
	name    string
	dir     bool
	data    []byte
	durable []byte

	entries        map[string]*node
	durableEntries map[string]*node
}

// entryChange is one atomic change of directory entries: a nil node deletes one.
// A rename changes two.
type entryChange []struct {
	dir   *node
	name  string
	child *node
}

// NewMem returns an empty file system.
func NewMem() *Mem { return &Mem{root: newNode(".", true)} }

func newNode(name string, dir bool) *node {
	n := &node{name: name, dir: dir}
	if dir {
		n.entries, n.durableEntries = map[string]*node{}, map[string]*node{}
	}
	return n
}

// find walks to a node.
func (m *Mem) find(op, name string) (*node, error) {
	if !fs.ValidPath(name) {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n := m.root
	if name == "." {
		return n, nil
	}
	for part := range strings.SplitSeq(name, "/") {
		if !n.dir {
			return nil, &fs.PathError{Op: op, Path: name, Err: errNotDir}
		}
		child, ok := n.entries[part]
		if !ok {
			return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
		}
		n = child
	}
	return n, nil
}

// parent walks to the directory of a name that is not the root's.
func (m *Mem) parent(op, name string) (*node, string, error) {
	if name == "." {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrInvalid}
	}
	n, err := m.find(op, path.Dir(name))
	if err != nil {
		return nil, "", err
	}
	if !n.dir {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: errNotDir}
	}
	return n, path.Base(name), nil
}

func (m *Mem) change(c entryChange) {
	for _, e := range c {
		set(e.dir.entries, e.name, e.child)
	}
	m.pending = append(m.pending, c)
}

func set(entries map[string]*node, name string, child *node) {
	if child == nil {
		delete(entries, name)
	} else {
		entries[name] = child
	}
}

func (m *Mem) add(op, name string, dir bool) (*node, error) {
	parent, base, err := m.parent(op, name)
	if err != nil {
		return nil, err
	}
	if _, ok := parent.entries[base]; ok {
		return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrExist}
	}
	n := newNode(base, dir)
	m.change(entryChange{{parent, base, n}})
	return n, nil
}

func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.add("create", name, false)
	if err != nil {
		return nil, err
	}
	return &memFile{mem: m, node: n}, nil
}

func (m *Mem) Append(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("append", name)
	if errors.Is(err, fs.ErrNotExist) {
		n, err = m.add("append", name, false)
	}
	if err != nil {
		return nil, err
	}
	if n.dir {
		return nil, &fs.PathError{Op: "append", Path: name, Err: errIsDir}
	}
	return &memFile{mem: m, node: n}, nil
}

func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	return &memFile{mem: m, node: n}, nil
}

func (m *Mem) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, err := m.add("mkdir", name, true)
	return err
}

func (m *Mem) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("readdir", name)
	if err != nil {
		return nil, err
	}
	if !n.dir {
		return nil, &fs.PathError{Op: "readdir", Path: name, Err: errNotDir}
	}
	entries := make([]fs.DirEntry, 0, len(n.entries))
	for _, base := range slices.Sorted(maps.Keys(n.entries)) {
		entries = append(entries, fs.FileInfoToDirEntry(n.entries[base].info(base)))
	}
	return entries, nil
}

func (m *Mem) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(path.Base(name)), nil
}

func (m *Mem) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	from, oldBase, err := m.parent("rename", oldname)
	if err != nil {
		return err
	}
	to, newBase, err := m.parent("rename", newname)
	if err != nil {
		return err
	}
	moved, ok := from.entries[oldBase]
	if !ok {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: fs.ErrNotExist}
	}
	if there, ok := to.entries[newBase]; ok {
		if err := mayReplace(there, moved); err != nil {
			return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
		}
	}
	m.change(entryChange{{from, oldBase, nil}, {to, newBase, moved}})
	return nil
}

func mayReplace(there, moved *node) error {
	switch {
	case there.dir && !moved.dir:
		return errIsDir
	case !there.dir && moved.dir:
		return errNotDir
	case len(there.entries) > 0:
		return errNotEmpty
	}
	return nil
}

func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n, err := m.find("remove", name)
	if err != nil {
		return err
	}
	if len(n.entries) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: errNotEmpty}
	}
	parent, base, err := m.parent("remove", name)
	if err != nil {
		return err
	}
	m.change(entryChange{{parent, base, nil}})
	return nil
}

func (n *node) info(name string) fs.FileInfo {
	return memInfo{name: name, size: int64(len(n.data)), dir: n.dir}
}

type memInfo struct {
	name string
	size int64
	dir  bool
}

func (i memInfo) Name() string       { return i.name }
func (i memInfo) Size() int64        { return i.size }
func (i memInfo) IsDir() bool        { return i.dir }
func (i memInfo) ModTime() time.Time { return time.Time{} }
func (i memInfo) Sys() any           { return nil }
func (i memInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o777
	}
	return 0o666
}

// memFile is an open file; the offset is that of Read.
type memFile struct {
	mem    *Mem
	node   *node
	offset int64
}

func (f *memFile) Read(p []byte) (int, error) {
	n, err := f.ReadAt(p, f.offset)
	f.offset += int64(n)
	if n > 0 {
		err = nil
	}
	return n, err
}

func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	if f.node.dir {
		return 0, &fs.PathError{Op: "read", Path: f.node.name, Err: errIsDir}
	}
	return bytes.NewReader(f.node.data).ReadAt(p, off)
}

func (f *memFile) Write(p []byte) (int, error) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.node.data = append(f.node.data, p...)
	return len(p), nil
}

func (f *memFile) Sync() error {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	f.node.durable = slices.Clone(f.node.data)
	return nil
}

func (f *memFile) Close() error { return nil }

func (f *memFile) Stat() (fs.FileInfo, error) {
	f.mem.mu.Lock()
	defer f.mem.mu.Unlock()
	return f.node.info(f.node.name), nil
}
