//go:build linux

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"jambalaya/internal/cli"
)

// TestDisks writes to file systems that are full or read-only. It needs the right to
// mount.
func TestDisks(t *testing.T) {
	t.Parallel()
	in := input(t)
	if err := os.WriteFile(filepath.Join(in, "large.txt"), make([]byte, 1<<20), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, want string
		flags      uintptr
	}{
		{"full", "no space left on device", 0},
		{"read-only", "read-only file system", unix.MS_RDONLY},
	} {
		t.Run(c.name, func(t *testing.T) {
			disk := t.TempDir()
			if err := unix.Mount("tmpfs", disk, "tmpfs", c.flags, "size=512k"); err != nil {
				t.Skip("mount:", err)
			}
			defer func() {
				if err := unix.Unmount(disk, 0); err != nil {
					t.Error(err)
				}
			}()
			out := filepath.Join(disk, "set")
			code, _, message := runShard(t.Context(), t, "--input", in, "--ext", ".txt", "--out", out)
			if code != cli.CodeFailure || !strings.Contains(message, c.want) || !strings.Contains(message, "set") || strings.Contains(message, "\n") {
				t.Errorf("exit code %d: %s", code, message)
			}
			if entries, err := os.ReadDir(disk); err != nil || len(entries) != 0 {
				t.Errorf("left: %v, %v", entries, err)
			}
		})
	}
}
