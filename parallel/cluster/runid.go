package cluster

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"time"

	"jambalaya/internal/vfs"
)

// RunIDName is the file, in the run's directory, with the run's identity: a random
// number. Workers that read another one do not share the directory.
const RunIDName = "run.id"

var runID = regexp.MustCompile(`^[0-9a-f]{16}$`)

// RunID returns the identity of the run in a directory, and gives it one if it has
// none. Processes that do so at the same time end up with the same.
func RunID(fsys vfs.FS, dir string) (string, error) {
	name := path.Join(dir, RunIDName)
	fresh := make([]byte, 8)
	if _, err := rand.Read(fresh); err != nil {
		return "", err
	}
	f, err := fsys.Create(name)
	if errors.Is(err, fs.ErrExist) {
		return ReadRunID(fsys, dir)
	}
	if err == nil {
		_, err = fmt.Fprintf(f, "%x\n", fresh)
		err = errors.Join(err, vfs.SyncClose(f), fsys.SyncDir(dir))
	}
	if err != nil {
		return "", fmt.Errorf("run id: %w", err)
	}
	return hex.EncodeToString(fresh), nil
}

// ReadRunID returns the identity of the run in a directory; fs.ErrNotExist says that
// it has none yet.
func ReadRunID(fsys vfs.FS, dir string) (string, error) {
	text, err := vfs.ReadFile(fsys, path.Join(dir, RunIDName), 1<<10)
	for try := 0; err == nil && len(text) == 0 && try < 20; try++ {
		time.Sleep(50 * time.Millisecond) // who makes it has not written it yet
		text, err = vfs.ReadFile(fsys, path.Join(dir, RunIDName), 1<<10)
	}
	if err != nil {
		return "", fmt.Errorf("run id: %w", err)
	}
	id := strings.TrimSpace(string(text))
	if !runID.MatchString(id) {
		return "", fmt.Errorf("run id: %s does not hold 16 hexadecimal digits; remove it to give the run another identity", RunIDName)
	}
	return id, nil
}
