package checkpoint

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"jambalaya/internal/vfs"
)

// Entry is a directory that is named like a checkpoint, and its manifest or why
// that cannot be read. Whether its files are whole only Verify can say.
type Entry struct {
	Name     string
	Step     int64
	Manifest *Manifest // nil if Err is not
	Err      error
}

// Skipped is a checkpoint that a newer start could not use.
type Skipped struct {
	Name    string
	Err     error  // what is wrong with it
	MovedTo string // where below the directory it was put aside, "" if it was not
}

func (s Skipped) String() string {
	if s.MovedTo == "" {
		return fmt.Sprintf("%v; left where it is", s.Err)
	}
	return fmt.Sprintf("%v; moved to %s", s.Err, s.MovedTo)
}

// List reads the manifests in dir: the newest checkpoint first, those without a
// readable manifest last. It is no error if the directory does not exist.
func List(fsys vfs.FS, dir string) ([]Entry, error) {
	files, err := fsys.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list checkpoints: %w", err)
	}
	var entries []Entry
	for _, f := range files {
		step, ok := parseStep(f.Name())
		if !ok {
			continue
		}
		e := Entry{Name: f.Name(), Step: step}
		e.Manifest, e.Err = readManifest(fsys, path.Join(dir, e.Name))
		if !gone(fsys, path.Join(dir, e.Name), e.Err) {
			entries = append(entries, e)
		}
	}
	slices.SortFunc(entries, newestFirst)
	return entries, nil
}

// newestFirst goes by generation, then step: should a process that was thought
// dead publish a late step, the history of the newer generation stands.
func newestFirst(a, b Entry) int {
	if (a.Manifest == nil) != (b.Manifest == nil) {
		if a.Manifest == nil {
			return 1
		}
		return -1
	}
	if a.Manifest != nil {
		if c := cmp.Compare(b.Manifest.Generation, a.Manifest.Generation); c != 0 {
			return c
		}
	}
	return cmp.Compare(b.Step, a.Step)
}

// Find returns the newest checkpoint in dir that verifies, and those that it
// found unusable on the way; it does not look at those named in but. It changes
// nothing; ErrNone says that none is good.
func Find(ctx context.Context, fsys vfs.FS, dir string, but ...string) (*Checkpoint, []Skipped, error) {
	entries, err := List(fsys, dir)
	if err != nil {
		return nil, nil, err
	}
	var found *Checkpoint
	var skipped []Skipped
	for _, e := range entries {
		switch {
		case slices.Contains(but, e.Name):
		case e.Err != nil:
			skipped = append(skipped, Skipped{Name: e.Name, Err: fmt.Errorf("checkpoint %s: %w", e.Name, e.Err)})
		case found == nil:
			c, err := Verify(ctx, fsys, dir, e.Name)
			if ctx.Err() != nil {
				return nil, skipped, ctx.Err()
			}
			if err != nil && !errors.Is(err, ErrGone) {
				skipped = append(skipped, Skipped{Name: e.Name, Err: err})
			}
			found = c
		}
	}
	if found == nil {
		return nil, skipped, fmt.Errorf("%w in %s", ErrNone, dir)
	}
	return found, skipped, nil
}
