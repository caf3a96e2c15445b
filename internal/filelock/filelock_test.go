//go:build unix

package filelock

import (
	"context"
	"errors"
	"io/fs"
	"path/filepath"
	"testing"
	"time"
)

func TestLock(t *testing.T) {
	t.Parallel()
	name := filepath.Join(t.TempDir(), ".lock")
	first, err := Try(name)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Try(name); !errors.Is(err, ErrHeld) {
		t.Errorf("a second time: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := Wait(ctx, name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while it is held: %v", err)
	}
	free := time.AfterFunc(50*time.Millisecond, func() { first.Close() })
	defer free.Stop()
	second, err := Wait(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	second.Close()
	if _, err := Try(filepath.Join(t.TempDir(), "none", ".lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in no directory: %v", err)
	}
}
