package vfs

import (
	"io/fs"
	"syscall"
	"testing"

	"jambalaya/internal/prng"
)

func TestCrashKeepsOnlyWhatWasSynced(t *testing.T) {
	t.Parallel()
	m := NewMem()
	must(t, MkdirAll(m, "d"))
	must(t, WriteFile(m, "d/named", []byte("1")))
	must(t, m.SyncDir("d"))
	must(t, WriteFile(m, "d/second", []byte("2")))
	f, err := m.Create("d/half")
	must(t, err)
	write(t, f, "3")
	must(t, f.Sync())
	must(t, m.SyncDir("d"))
	write(t, f, "4") // its data is not synced
	must(t, m.Mkdir("lost"))
	must(t, WriteFile(m, "lost/x", nil))
	must(t, m.SyncDir("lost")) // but the entry of lost itself is not

	must(t, WriteFile(m, "d/late", nil))
	m.Crash(nil)
	write(t, f, "5") // a handle of the time before reaches nothing

	wantContent(t, m, "d/named", "1")
	wantContent(t, m, "d/second", "2")
	wantContent(t, m, "d/half", "3")
	for _, name := range []string{"lost", "d/late"} {
		_, err := m.Stat(name)
		wantErr(t, err, fs.ErrNotExist)
	}
}

func TestCrashUndoesUnsyncedRenameAndRemove(t *testing.T) {
	t.Parallel()
	m := NewMem()
	must(t, MkdirAll(m, "a"))
	must(t, MkdirAll(m, "b"))
	must(t, WriteFile(m, "a/x", []byte("x")))
	must(t, WriteFile(m, "a/y", []byte("y")))
	must(t, m.SyncDir("a"))
	must(t, m.Rename("a/x", "b/x"))
	must(t, m.Remove("a/y"))
	m.Crash(nil)
	wantContent(t, m, "a/x", "x")
	wantContent(t, m, "a/y", "y")

	must(t, m.Rename("a/x", "b/x"))
	must(t, m.SyncDir("b")) // one sync of either directory settles the rename
	m.Crash(nil)
	wantContent(t, m, "b/x", "x")
	_, err := m.Stat("a/x")
	wantErr(t, err, fs.ErrNotExist)
}

// TestCrashNeverLosesDurable moves a durable file around and cuts the power: it
// is always at exactly one place, whole, and torn data is seen of every kind.
func TestCrashNeverLosesDurable(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for seed := range uint64(300) {
		m := NewMem()
		must(t, MkdirAll(m, "a"))
		must(t, MkdirAll(m, "b"))
		must(t, WriteFile(m, "a/x", []byte("x")))
		must(t, m.SyncDir("a"))
		must(t, m.Rename("a/x", "b/x"))
		must(t, m.Rename("b/x", "a/z"))
		f, err := m.Create("a/new")
		must(t, err)
		write(t, f, "data")
		m.Crash(prng.New(seed, "crash"))
		places := 0
		for _, name := range []string{"a/x", "b/x", "a/z"} {
			if _, err := m.Stat(name); err == nil {
				places++
				wantContent(t, m, name, "x")
			}
		}
		if places != 1 {
			t.Errorf("seed %d: the file is at %d places", seed, places)
		}
		if data, err := ReadFile(m, "a/new", 10); err == nil {
			seen[string(data)] = true
		}
	}
	for _, want := range []string{"", "data", "da", "\x00\x00\x00\x00"} {
		if !seen[want] {
			t.Errorf("no crash left %q", want)
		}
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	run := func(fsys FS) error {
		if err := WriteFile(fsys, "a", []byte("1234")); err != nil {
			return err
		}
		return fsys.SyncDir(".")
	}
	counter := NewFaults(NewMem(), func(Op) error { return nil })
	must(t, run(counter))
	if counter.Count() != 5 { // create, write, sync, close, syncdir
		t.Fatalf("%d operations, want 5", counter.Count())
	}
	for n := range counter.Count() {
		wantErr(t, run(NewFaults(NewMem(), FailAt(n, syscall.ENOSPC))), syscall.ENOSPC)
		faulty := NewFaults(NewMem(), FailFrom(n, ErrKilled))
		wantErr(t, run(faulty), ErrKilled)
		wantErr(t, faulty.Mkdir("later"), ErrKilled)
	}
	mem := NewMem()
	if run(NewFaults(mem, FailAt(1, syscall.EIO))) == nil {
		t.Error("the write did not fail")
	}
	wantContent(t, mem, "a", "12")
}

func write(t *testing.T, f File, data string) {
	t.Helper()
	if _, err := f.Write([]byte(data)); err != nil {
		t.Fatal(err)
	}
}
