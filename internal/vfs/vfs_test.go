package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// implementations are what the conformance suite runs on.
func implementations(t *testing.T) map[string]FS {
	t.Helper()
	dir, err := Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dir.Close() })
	return map[string]FS{
		"dir":    dir,
		"mem":    NewMem(),
		"faults": NewFaults(NewMem(), func(Op) error { return nil }),
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, fsys := range implementations(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFiles(t, fsys)
			testDirectories(t, fsys)
			testRename(t, fsys)
		})
	}
}

func testFiles(t *testing.T, fsys FS) {
	t.Helper()
	must(t, WriteFile(fsys, "a", []byte("hello")))
	wantErr(t, WriteFile(fsys, "a", nil), fs.ErrExist)
	wantErr(t, WriteFile(fsys, "no/a", nil), fs.ErrNotExist)
	wantContent(t, fsys, "a", "hello")
	_, err := ReadFile(fsys, "a", 4)
	wantErr(t, err, ErrTooLarge)
	_, err = fsys.Open("b")
	wantErr(t, err, fs.ErrNotExist)
	_, err = fsys.Stat("b")
	wantErr(t, err, fs.ErrNotExist)

	f, err := fsys.Open("a")
	must(t, err)
	defer f.Close()
	buf := make([]byte, 3)
	if n, err := f.ReadAt(buf, 2); n != 3 || (err != nil && err != io.EOF) || string(buf) != "llo" {
		t.Errorf("ReadAt = %d %q %v", n, buf, err)
	}
	if n, err := f.ReadAt(buf, 4); n != 1 || err != io.EOF {
		t.Errorf("ReadAt past the end = %d, %v, want 1, EOF", n, err)
	}
	if rest, err := io.ReadAll(f); err != nil || string(rest) != "hello" {
		t.Errorf("ReadAll = %q, %v", rest, err)
	}
	must(t, fsys.Remove("a"))
	wantErr(t, fsys.Remove("a"), fs.ErrNotExist)

	for _, text := range []string{"one ", "two"} {
		g, err := fsys.Append("log")
		must(t, err)
		write(t, g, text)
		must(t, SyncClose(g))
	}
	wantContent(t, fsys, "log", "one two")
	if _, err := fsys.Append("no/log"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Append in a directory that is not there: %v", err)
	}
	must(t, fsys.Remove("log"))
}

func testDirectories(t *testing.T, fsys FS) {
	t.Helper()
	must(t, MkdirAll(fsys, "d/e"))
	must(t, MkdirAll(fsys, "d/e"))
	wantErr(t, fsys.Mkdir("d"), fs.ErrExist)
	must(t, WriteFile(fsys, "d/y", []byte("12")))
	must(t, WriteFile(fsys, "d/e/x", nil))
	must(t, fsys.SyncDir("d"))
	if err := MkdirAll(fsys, "d/y"); err == nil {
		t.Error("MkdirAll took a file's place")
	}
	wantErr(t, fsys.Remove("d"), fs.ErrExist)
	entries, err := fsys.ReadDir("d")
	must(t, err)
	if len(entries) != 2 || entries[0].Name() != "e" || !entries[0].IsDir() || entries[1].Name() != "y" || entries[1].IsDir() {
		t.Errorf("ReadDir = %v", entries)
	}
	info, err := fsys.Stat("d/y")
	must(t, err)
	if info.Size() != 2 || info.IsDir() || info.Name() != "y" {
		t.Errorf("Stat = %v", info)
	}
	must(t, RemoveAll(fsys, "d"))
	must(t, RemoveAll(fsys, "d"))
	_, err = fsys.Stat("d")
	wantErr(t, err, fs.ErrNotExist)
}

func testRename(t *testing.T, fsys FS) {
	t.Helper()
	must(t, MkdirAll(fsys, "from"))
	must(t, WriteFile(fsys, "from/x", []byte("new")))
	must(t, MkdirAll(fsys, "taken"))
	must(t, WriteFile(fsys, "taken/x", []byte("old")))
	wantErr(t, fsys.Rename("from", "taken"), fs.ErrExist)
	wantContent(t, fsys, "taken/x", "old")
	must(t, fsys.Rename("from", "to"))
	wantContent(t, fsys, "to/x", "new")
	wantErr(t, fsys.Rename("from", "again"), fs.ErrNotExist)
	must(t, fsys.Rename("to/x", "taken/x"))
	wantContent(t, fsys, "taken/x", "new")
	if err := fsys.Rename("taken/x", "to"); err == nil {
		t.Error("a file took a directory's place")
	}
	if err := fsys.Rename("to", "taken/x"); err == nil {
		t.Error("a directory took a file's place")
	}
}

// TestConfinement tries to leave the directory by name and by link.
func TestConfinement(t *testing.T) {
	t.Parallel()
	outside := t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o600))
	inside := t.TempDir()
	must(t, os.Symlink(outside, filepath.Join(inside, "link")))
	must(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(inside, "file")))
	dir, err := Dir(inside)
	must(t, err)
	defer dir.Close()
	up := "../" + filepath.Base(outside) + "/secret"
	for _, name := range []string{up, outside + "/secret", "link/secret", "file", "x/../" + up} {
		if data, err := ReadFile(dir, name, 10); err == nil {
			t.Errorf("read %s: %q", name, data)
		}
		if err := dir.Remove(name); err == nil && name != "file" {
			t.Errorf("removed %s", name)
		}
	}
	must(t, RemoveAll(dir, "link"))
	if _, err := os.Stat(filepath.Join(outside, "secret")); err != nil {
		t.Errorf("the file outside is gone: %v", err)
	}
	_, err = NewMem().Open("../a")
	wantErr(t, err, fs.ErrInvalid)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}

func wantContent(t *testing.T, fsys FS, name, want string) {
	t.Helper()
	got, err := ReadFile(fsys, name, 1<<20)
	if err != nil || string(got) != want {
		t.Errorf("%s = %q, %v, want %q", name, got, err, want)
	}
}

// TestRemoveAllTogether removes a tree that another process removes too.
func TestRemoveAllTogether(t *testing.T) {
	t.Parallel()
	mem := NewMem()
	must(t, MkdirAll(mem, "d/e"))
	must(t, WriteFile(mem, "d/e/x", nil))
	must(t, WriteFile(mem, "d/y", nil))
	other := NewFaults(mem, func(op Op) error {
		if op.Kind == "readdir" || op.Kind == "remove" {
			return RemoveAll(mem, op.Name) // just before
		}
		return nil
	})
	must(t, RemoveAll(other, "d"))
	_, err := mem.Stat("d")
	wantErr(t, err, fs.ErrNotExist)
}
