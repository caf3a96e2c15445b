package checkpoint

import (
	"errors"
	"slices"
	"syscall"
	"testing"

	"jambalaya/internal/vfs"
)

// mountTmpfs mounts a small file system; that takes root.
func mountTmpfs(t *testing.T, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, options); err != nil {
		t.Skipf("cannot mount a tmpfs: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// TestDiskFull fills a real disk: the save fails, what was there stays and is
// used, and with space again saving goes on.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	root, err := vfs.Dir(mountTmpfs(t, "size=256k"))
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m := open(t, root, Options{})
	save(t, m, 10)
	ballast, err := root.Create("ballast")
	if err != nil {
		t.Fatal(err)
	}
	defer ballast.Close()
	for err == nil {
		_, err = ballast.Write(make([]byte, 4096))
	}
	wantErr(t, err, syscall.ENOSPC)
	if err := m.Save(snapshot(20)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, m.Wait(), syscall.ENOSPC)
	if c, skipped := latest(t, m); c.Manifest.Step != 10 || len(skipped) > 0 {
		t.Errorf("step %d, skipped %v", c.Manifest.Step, skipped)
	}
	if err := root.Remove("ballast"); err != nil {
		t.Fatal(err)
	}
	ballast.Close()
	save(t, m, 30)
	if got := steps(t, root); !slices.Equal(got, []int64{30, 10}) {
		t.Errorf("published %v", got)
	}
}

// TestReadOnly remounts a disk read-only: what is there can be used, Open for
// writing says at once that it cannot.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	path := mountTmpfs(t, "size=1m")
	root, err := vfs.Dir(path)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m := open(t, root, Options{})
	save(t, m, 10)
	if err := syscall.Mount("", path, "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Skipf("cannot remount: %v", err)
	}
	latest(t, m)
	if err := m.Save(snapshot(20)); err != nil {
		t.Fatal(err)
	}
	wantErr(t, m.Wait(), syscall.EROFS)
	_, err = Open(root, dir, Options{Config: Default()})
	if !errors.Is(err, syscall.EROFS) {
		t.Errorf("Open: %v", err)
	}
}
