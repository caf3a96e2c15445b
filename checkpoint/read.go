package checkpoint

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"runtime"
	"strings"

	"golang.org/x/sync/errgroup"

	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

// Checkpoint is a published checkpoint whose every file was verified.
type Checkpoint struct {
	Manifest *Manifest
	State    *State

	fsys    vfs.FS
	dir     string // with the checkpoint's own name
	index   *Index
	entries map[string]*TensorInfo
}

// Name is the name of the checkpoint's directory: step-00001200.
func (c *Checkpoint) Name() string { return path.Base(c.dir) }

// Tensors lists the tensors, in the order in which they were saved.
func (c *Checkpoint) Tensors() []TensorInfo { return c.index.Tensors }

// readManifest reads the manifest of a published directory.
func readManifest(fsys vfs.FS, dir string) (*Manifest, error) {
	text, err := vfs.ReadFile(fsys, path.Join(dir, manifestName), maxManifest)
	if err != nil {
		return nil, readError(manifestName, err)
	}
	m, err := decodeManifest(text)
	if err != nil {
		return nil, err
	}
	if stepDir(m.Step) != path.Base(dir) {
		return nil, corrupt("%s is that of step %d", manifestName, m.Step)
	}
	return m, nil
}

// readError tells what is wrong with a file from what is wrong with the disk.
func readError(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return corrupt("%s is missing", name)
	case errors.Is(err, vfs.ErrTooLarge), errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt("%s: %v", name, err)
	}
	return err
}

// Verify reads every byte of the checkpoint called name in dir and compares it
// with the manifest. The error says which file is wrong; it wraps ErrCorrupt,
// unless the disk could not be read or the checkpoint is no more (ErrGone).
func Verify(ctx context.Context, fsys vfs.FS, dir, name string) (*Checkpoint, error) {
	c := &Checkpoint{fsys: fsys, dir: path.Join(dir, name)}
	err := c.verify(ctx)
	if gone(fsys, c.dir, err) {
		err = ErrGone
	}
	if err != nil {
		return nil, fmt.Errorf("checkpoint %s: %w", name, err)
	}
	return c, nil
}

// gone tells a checkpoint that lost its files from one that was deleted as a
// whole: then err is not damage.
func gone(fsys vfs.FS, dir string, err error) bool {
	if !errors.Is(err, ErrCorrupt) {
		return false
	}
	_, statErr := fsys.Stat(dir)
	return errors.Is(statErr, fs.ErrNotExist)
}

func (c *Checkpoint) verify(ctx context.Context) (err error) {
	if c.Manifest, err = readManifest(c.fsys, c.dir); err != nil {
		return err
	}
	// Sizes first: a cut file is found without reading the others.
	for _, f := range c.Manifest.Files {
		info, err := c.fsys.Stat(path.Join(c.dir, f.Name))
		if err != nil {
			return readError(f.Name, err)
		}
		if info.Size() != f.Size || !info.Mode().IsRegular() {
			return corrupt("%s has %d bytes, the manifest says %d", f.Name, info.Size(), f.Size)
		}
	}
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, f := range c.Manifest.Files {
		group.Go(func() error { return c.verifyFile(ctx, f) })
	}
	if err := group.Wait(); err != nil {
		return err
	}
	return c.readTables()
}

func (c *Checkpoint) verifyFile(ctx context.Context, want FileSum) error {
	f, err := c.fsys.Open(path.Join(c.dir, want.Name))
	if err != nil {
		return readError(want.Name, err)
	}
	defer f.Close()
	hash := sha256.New()
	buf := make([]byte, min(max(want.Size, 1), 1<<20))
	n, err := io.CopyBuffer(struct{ io.Writer }{hash}, io.LimitReader(contextReader{ctx, f}, want.Size), buf)
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", want.Name, err)
	case n != want.Size:
		return corrupt("%s has %d bytes, the manifest says %d", want.Name, n, want.Size)
	case hex.EncodeToString(hash.Sum(nil)) != want.SHA256:
		return corrupt("the checksum of %s does not match the manifest", want.Name)
	}
	return nil
}

// contextReader stops reading when its context ends.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// readTables reads index and state, and compares the index with the headers of
// the files that it points into.
func (c *Checkpoint) readTables() error {
	text, err := vfs.ReadFile(c.fsys, path.Join(c.dir, indexName), maxIndex)
	if err != nil {
		return readError(indexName, err)
	}
	if c.index, err = decodeIndex(text); err != nil {
		return err
	}
	text, err = vfs.ReadFile(c.fsys, path.Join(c.dir, stateName), maxState)
	if err != nil {
		return readError(stateName, err)
	}
	if c.State, err = decodeState(text); err != nil {
		return err
	}
	if c.State.Step != c.Manifest.Step {
		return corrupt("%s is that of step %d", stateName, c.State.Step)
	}
	stored := map[place]bool{}
	for _, f := range c.Manifest.Files {
		if !strings.HasSuffix(f.Name, extension) {
			continue
		}
		if err := c.addPlaces(stored, f); err != nil {
			return err
		}
	}
	c.entries = make(map[string]*TensorInfo, len(c.index.Tensors))
	for i := range c.index.Tensors {
		t := &c.index.Tensors[i]
		c.entries[t.Name] = t
		for _, p := range t.Parts {
			if !stored[place{p.File, t.DType, p.Offset, p.Length}] {
				return corrupt("%s: %s holds no %s of %d bytes at %d for %q", indexName, p.File, t.DType, p.Length, p.Offset, t.Name)
			}
		}
	}
	return nil
}

// place is where a file has a tensor.
type place struct {
	file           string
	dtype          safetensors.DType
	offset, length int64
}

func (c *Checkpoint) addPlaces(places map[place]bool, sum FileSum) error {
	f, err := c.fsys.Open(path.Join(c.dir, sum.Name))
	if err != nil {
		return readError(sum.Name, err)
	}
	defer f.Close()
	header, err := safetensors.ReadHeader(f, sum.Size)
	if errors.Is(err, safetensors.ErrFormat) {
		return corrupt("%s: %v", sum.Name, err)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", sum.Name, err)
	}
	for _, t := range header.Tensors {
		places[place{sum.Name, t.DType, t.Begin, t.End - t.Begin}] = true
	}
	return nil
}
