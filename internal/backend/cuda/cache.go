package cuda

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
)

// cache keeps compiled modules on disk. It is a help, not a promise: what cannot
// be read, or does not match its checksum, is compiled again.
type cache struct {
	dir string // "" keeps nothing
}

// userCache is the cache in the user's own directory.
func userCache() cache {
	dir, err := os.UserCacheDir()
	if err != nil {
		return cache{}
	}
	return cache{filepath.Join(dir, "jambalaya", "cuda")}
}

// key names what the parts determine: compiler, options and source.
func key(parts ...string) string {
	h := sha256.New()
	for _, p := range parts {
		sum := sha256.Sum256([]byte(p))
		h.Write(sum[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func (c cache) file(key string) string { return filepath.Join(c.dir, key+".cubin") }

func (c cache) load(key string) ([]byte, bool) {
	if c.dir == "" {
		return nil, false
	}
	data, err := os.ReadFile(c.file(key))
	if err != nil || len(data) <= sha256.Size {
		return nil, false
	}
	sum, code := data[:sha256.Size], data[sha256.Size:]
	want := sha256.Sum256(code)
	return code, bytes.Equal(sum, want[:])
}

// store publishes a file by renaming it, so that processes that start together
// never read half of one.
func (c cache) store(key string, code []byte) {
	if c.dir == "" || os.MkdirAll(c.dir, 0o755) != nil {
		return
	}
	f, err := os.CreateTemp(c.dir, "new-*")
	if err != nil {
		return
	}
	sum := sha256.Sum256(code)
	_, err = f.Write(append(sum[:], code...))
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil || os.Rename(f.Name(), c.file(key)) != nil {
		os.Remove(f.Name())
	}
}
