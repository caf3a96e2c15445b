package checkpoint

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"path"
	"runtime"

	"golang.org/x/sync/errgroup"

	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

const (
	// Below it one file is written after the other: training wants the cores.
	smallBatch = 64 << 20
	maxWriters = 4
	// chunk is written and then hashed while it is still in the cache.
	chunk = 1 << 20
)

// writeFiles writes the tensors of a batch to a directory, synced and hashed on the
// way.
func (b *batch) writeFiles(fsys vfs.FS, dir string) ([]FileSum, error) {
	sums := make([]FileSum, len(b.files))
	group, ctx := errgroup.WithContext(context.Background())
	group.SetLimit(b.writers())
	for i := range b.files {
		group.Go(func() (err error) {
			if ctx.Err() == nil { // else another file has failed
				sums[i], err = b.writeTensors(fsys, dir, &b.files[i])
			}
			return err
		})
	}
	return sums, group.Wait()
}

// writeTables writes what says where the tensors lie, and the state.
func writeTables(fsys vfs.FS, dir string, index *Index, state []byte) ([]FileSum, error) {
	text, err := index.encode()
	if err != nil {
		return nil, err
	}
	var sums []FileSum
	for _, f := range []struct {
		name string
		text []byte
	}{{indexName, text}, {stateName, state}} {
		sum, err := writeSummed(fsys, path.Join(dir, f.name), func(w io.Writer) error {
			_, err := w.Write(f.text)
			return err
		})
		if err != nil {
			return nil, err
		}
		sums = append(sums, sum)
	}
	return sums, nil
}

// writers is how many files are written at the same time.
func (b *batch) writers() int {
	if b.bytes() < smallBatch {
		return 1
	}
	return min(maxWriters, runtime.GOMAXPROCS(0))
}

// writeTensors writes one file and enters into the index where its tensors lie.
func (b *batch) writeTensors(fsys vfs.FS, dir string, f *batchFile) (FileSum, error) {
	return writeSummed(fsys, path.Join(dir, f.name), func(w io.Writer) error {
		buffer := bufio.NewWriterSize(w, 1<<16) // gathers small tensors
		_, infos, err := safetensors.Write(buffer, nil, f.tensors)
		if err != nil {
			return err
		}
		for i, ref := range f.parts {
			b.index.Tensors[ref.tensor].Parts[ref.part].Offset = infos[i].Begin
		}
		return buffer.Flush()
	})
}

// writeSummed writes a file and returns its size and hash.
func writeSummed(fsys vfs.FS, name string, write func(io.Writer) error) (FileSum, error) {
	f, err := fsys.Create(name)
	if err != nil {
		return FileSum{}, err
	}
	w := &summedWriter{file: f, hash: sha256.New()}
	if err := write(w); err != nil {
		f.Close()
		return FileSum{}, err
	}
	if err := vfs.SyncClose(f); err != nil {
		return FileSum{}, err
	}
	return FileSum{Name: path.Base(name), Size: w.size, SHA256: hex.EncodeToString(w.hash.Sum(nil))}, nil
}

// summedWriter counts and hashes what it writes.
type summedWriter struct {
	file vfs.File
	hash hash.Hash
	size int64
}

func (w *summedWriter) Write(p []byte) (written int, err error) {
	for written < len(p) && err == nil {
		var n int
		n, err = w.file.Write(p[written:min(len(p), written+chunk)])
		w.hash.Write(p[written : written+n])
		written += n
	}
	w.size += int64(written)
	return written, err
}

// commit writes the manifest: after it, the directory is a whole checkpoint that
// only lacks its name.
func (m *Manifest) commit(fsys vfs.FS, dir string) error {
	text, err := m.encode()
	if err != nil {
		return err
	}
	if err := vfs.WriteFile(fsys, path.Join(dir, manifestName), text); err != nil {
		return err
	}
	return fsys.SyncDir(dir)
}
