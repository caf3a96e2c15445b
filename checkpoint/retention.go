package checkpoint

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"jambalaya/internal/vfs"
)

// retain deletes the checkpoints that the configuration does not keep. Before the
// first goes, the newest is read back: what was only written is not a checkpoint
// to rely on. If it is corrupt it is put aside, and nothing is deleted.
func (m *Manager) retain(newest string) error {
	doomed, err := m.doomed()
	if err != nil || len(doomed) == 0 {
		return err
	}
	if _, err := Verify(context.Background(), m.fsys, m.dir, newest); err != nil {
		if errors.Is(err, ErrCorrupt) {
			_, moveErr := m.quarantine(newest)
			return errors.Join(err, moveErr)
		}
		return err
	}
	for _, e := range doomed {
		if err := m.delete(e); err != nil {
			return fmt.Errorf("delete checkpoint %s: %w", e.Name, err)
		}
	}
	return nil
}

// doomed lists the checkpoints to delete. One whose manifest cannot be read is
// neither counted nor deleted.
func (m *Manager) doomed() ([]Entry, error) {
	entries, err := List(m.fsys, m.dir)
	if err != nil {
		return nil, err
	}
	var doomed []Entry
	for i, e := range entries {
		forGood := m.opt.KeepEvery > 0 && e.Step%int64(m.opt.KeepEvery) == 0
		if e.Manifest != nil && i >= m.opt.Keep && !forGood {
			doomed = append(doomed, e)
		}
	}
	return doomed, nil
}

// delete takes a checkpoint's name away first, and durably: a crash half-way must
// not leave a checkpoint with files missing.
func (m *Manager) delete(e Entry) error {
	away := path.Join(m.dir, deletingDir(e.Step))
	if err := vfs.RemoveAll(m.fsys, away); err != nil {
		return err
	}
	if err := m.fsys.Rename(path.Join(m.dir, e.Name), away); err != nil {
		return err
	}
	if err := m.fsys.SyncDir(m.dir); err != nil {
		return err
	}
	return vfs.RemoveAll(m.fsys, away)
}

// quarantine moves a checkpoint aside and returns where to, below the manager's
// directory.
func (m *Manager) quarantine(name string) (string, error) {
	if err := vfs.MkdirAll(m.fsys, path.Join(m.dir, quarantineDir)); err != nil {
		return "", err
	}
	to := path.Join(quarantineDir, name)
	for n := 1; ; n++ {
		_, err := m.fsys.Stat(path.Join(m.dir, to))
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return "", err
		}
		to = path.Join(quarantineDir, fmt.Sprintf("%s.%d", name, n))
	}
	if err := m.fsys.Rename(path.Join(m.dir, name), path.Join(m.dir, to)); err != nil {
		return "", err
	}
	return to, errors.Join(m.fsys.SyncDir(path.Join(m.dir, quarantineDir)), m.fsys.SyncDir(m.dir))
}

// clearLeftovers removes what interrupted saves and deletions left.
func (m *Manager) clearLeftovers() error {
	files, err := m.fsys.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, f := range files {
		if !isLeftover(f.Name(), m.opt.Generation) {
			continue
		}
		if err := m.clear(path.Join(m.dir, f.Name())); err != nil {
			return err
		}
	}
	return nil
}

// clear removes what another process may be writing at this moment, not knowing yet
// that it has been replaced. It takes the name away first: what that process still
// creates below it then fails, instead of filling the directory that is being removed.
func (m *Manager) clear(name string) error {
	away := name + ".cleared"
	if err := vfs.RemoveAll(m.fsys, away); err != nil {
		return err
	}
	switch err := m.fsys.Rename(name, away); {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it cleared up itself
	case err != nil:
		return err
	}
	var err error
	for range 3 { // a file that was being created may come late
		if err = vfs.RemoveAll(m.fsys, away); err == nil {
			break
		}
	}
	return err
}

// tryWriting finds out that a directory is read-only before training begins.
func (m *Manager) tryWriting() error {
	probe := path.Join(m.dir, writingDir(0, m.opt.Generation))
	if err := m.fsys.Mkdir(probe); err != nil {
		return err
	}
	return m.fsys.Remove(probe)
}
