package checkpoint

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"path"

	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

// writeFiles writes a batch to a directory that it makes: all that a manifest
// lists, synced and hashed on the way.
func (b *batch) writeFiles(fsys vfs.FS, dir string) ([]FileSum, error) {
	if err := vfs.RemoveAll(fsys, dir); err != nil {
		return nil, err
	}
	if err := fsys.Mkdir(dir); err != nil {
		return nil, err
	}
	var sums []FileSum
	buffer := bufio.NewWriterSize(nil, 1<<18)
	for _, f := range b.files {
		sum, err := writeSummed(fsys, path.Join(dir, f.name), buffer, func(w io.Writer) error {
			_, infos, err := safetensors.Write(w, nil, f.tensors)
			for i, ref := range f.parts[:len(infos)] {
				b.index.Tensors[ref.tensor].Parts[ref.part].Offset = infos[i].Begin
			}
			return err
		})
		if err != nil {
			return nil, err
		}
		sums = append(sums, sum)
	}
	index, err := b.index.encode()
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name string
		text []byte
	}{{indexName, index}, {stateName, b.state}} {
		sum, err := writeSummed(fsys, path.Join(dir, f.name), buffer, func(w io.Writer) error {
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

// writeSummed writes a file through a buffer and returns its size and hash.
func writeSummed(fsys vfs.FS, name string, buffer *bufio.Writer, write func(io.Writer) error) (FileSum, error) {
	f, err := fsys.Create(name)
	if err != nil {
		return FileSum{}, err
	}
	hash := sha256.New()
	counted := &counter{w: io.MultiWriter(f, hash)}
	buffer.Reset(counted)
	err = write(buffer)
	if err == nil {
		err = buffer.Flush()
	}
	if err != nil {
		f.Close()
		return FileSum{}, err
	}
	if err := vfs.SyncClose(f); err != nil {
		return FileSum{}, err
	}
	return FileSum{Name: path.Base(name), Size: counted.n, SHA256: hex.EncodeToString(hash.Sum(nil))}, nil
}

type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
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
