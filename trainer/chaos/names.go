package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"jambalaya/checkpoint"
	"jambalaya/data/shard"
	"jambalaya/internal/prng"
	"jambalaya/internal/vfs"
)

// secret stands in a file outside; who returns it has escaped.
const secret = "the content of a file outside"

// openNames tries names that lead out of a directory, in every way in which the program
// opens what a manifest or a caller names: through package vfs, in a checkpoint's
// manifest, in a data set's manifest, and through links that lie inside.
func openNames(t task) (answer, error) {
	base := filepath.Join(t.Dir, "names")
	e := escapes{inside: filepath.Join(base, "a", "b", "inside"), outside: filepath.Join(base, "outside")}
	if err := cmpFirst(os.MkdirAll(e.inside, 0o777), os.MkdirAll(e.outside, 0o777),
		os.WriteFile(filepath.Join(e.outside, "secret"), []byte(secret), 0o666),
		os.WriteFile(filepath.Join(base, "secret"), []byte(secret), 0o666)); err != nil {
		return answer{}, err
	}
	var err error
	if e.checkpoint, err = contents(filepath.Join(t.Dir, "run", checkpointDir, "step-00000020")); err != nil {
		return answer{}, err
	}
	data, err := oneDir(filepath.Join(t.Dir, "cache"))
	if err != nil {
		return answer{}, err
	}
	if e.data, err = contents(data); err != nil {
		return answer{}, err
	}
	before, err := fingerprint(base, e.inside)
	if err != nil {
		return answer{}, err
	}
	var a answer
	for i, name := range corpus(prng.New(t.Seed, "chaos/names"), e.outside, t.Count) {
		for _, bad := range []string{e.direct(name), e.inManifests(name), e.throughLink(name, i)} {
			if bad != "" {
				a.Bad = append(a.Bad, fmt.Sprintf("%q %s", name, bad))
			}
		}
		a.Done++
	}
	after, err := fingerprint(base, e.inside)
	if err == nil && after != before {
		a.Bad = append(a.Bad, "something outside was changed")
	}
	a.Figure = "0 escapes through files, manifests and links"
	return a, err
}

// escapes are the attempts.
type escapes struct {
	inside, outside  string
	checkpoint, data map[string][]byte
}

// direct uses a name in every operation of package vfs.
func (e *escapes) direct(name string) string {
	root, err := vfs.Dir(e.inside)
	if err != nil {
		return err.Error()
	}
	defer root.Close()
	if text, err := vfs.ReadFile(root, name, 1<<20); err == nil && strings.Contains(string(text), secret) {
		return "is read through Open"
	}
	if f, err := root.Create(name); err == nil {
		f.Close()
		_ = root.Remove(name)
	}
	// What these do outside, if anything, the fingerprint shows.
	_ = root.Mkdir(name)
	_ = root.Rename(name, "moved")
	_ = root.Remove("moved")
	_ = root.Remove(name)
	if err := vfs.WriteFile(root, "own", []byte("x")); err == nil {
		_ = root.Rename("own", name)
		_ = root.Remove("own")
	}
	return ""
}

// inManifests lists a name in a checkpoint's manifest and a data set's, whose checksums
// are made to fit.
func (e *escapes) inManifests(name string) string {
	sum := fmt.Sprintf("%x", sha256.Sum256([]byte(secret)))
	quoted := func(manifest []byte, old string) []byte {
		text := bytes.ReplaceAll(manifest, []byte(`"`+old+`"`), fmt.Appendf(nil, "%q", name))
		return bytes.ReplaceAll(text, []byte(old), []byte(sum))
	}
	mem := vfs.NewMem()
	if err := cmpFirst(vfs.MkdirAll(mem, "c/step-00000020"),
		vfs.WriteFile(mem, "c/step-00000020/manifest.json", sealManifest(quoted(e.checkpoint["manifest.json"], "model-r0000-of-0001.safetensors")))); err != nil {
		return err.Error()
	}
	_, err := checkpoint.Verify(context.Background(), mem, "c", "step-00000020")
	if !errors.Is(err, checkpoint.ErrCorrupt) {
		return fmt.Sprintf("in a checkpoint's manifest: %v", err)
	}
	if _, _, err := shard.ParseManifest(seal(quoted(unseal(e.data[shard.ManifestName]), "train-00000.arrow"))); err == nil {
		return "is accepted in a data set's manifest"
	}
	return ""
}

// throughLink plants a link under a plain name, to where the name leads from inside,
// and reads and writes through it.
func (e *escapes) throughLink(name string, i int) string {
	target := name
	if i%2 == 0 {
		target = filepath.Join(e.outside, "secret")
	}
	if strings.ContainsRune(target, 0) || target == "" {
		return ""
	}
	link := filepath.Join(e.inside, "link")
	if err := os.Symlink(target, link); err != nil {
		return ""
	}
	defer os.Remove(link)
	root, err := vfs.Dir(e.inside)
	if err != nil {
		return err.Error()
	}
	defer root.Close()
	for _, through := range []string{"link", "link/secret", "link/../secret"} {
		if text, err := vfs.ReadFile(root, through, 1<<20); err == nil && strings.Contains(string(text), secret) {
			return "is read through a link"
		}
		if f, err := root.Create(through); err == nil {
			_, _ = io.WriteString(f, "x")
			f.Close()
		}
	}
	_ = vfs.RemoveAll(root, "link")
	return ""
}

// corpus makes names that lead elsewhere, or might on some system or after some
// decoding.
func corpus(chance *prng.Rand, outside string, count int) []string {
	ups := []string{"../", "..\\", "..//", "./../", "%2e%2e/", "..%2f", "%252e%252e%252f", "\u002e\u002e/", "..\u2215", "\uff0e\uff0e/", "....//", "..;/", ".../", " ../", "..\x00/"}
	starts := []string{"", "/", "//", "\\", "C:\\", "C:/", "~/", "~root/", "file://", "\\\\?\\", "\\\\host\\share\\", "./", "a/../", "step-00000020/", outside + "/", "/proc/self/root/", "/proc/self/cwd/", "/dev/fd/", "//./"}
	ends := []string{"secret", "outside/secret", "etc/passwd", "secret\x00.safetensors", "secret/", "secret/.", "CON", "nul.safetensors", "..", ".", "secret\n", "secret ", "*", "-rf", "$(id)", strings.Repeat("x", 300)}
	seen := map[string]bool{}
	var names []string
	for len(names) < count {
		up := ups[chance.IntN(len(ups))]
		name := starts[chance.IntN(len(starts))] + strings.Repeat(up, 1+chance.IntN(6)) + ends[chance.IntN(len(ends))]
		if !seen[name] {
			seen[name] = true
			names = append(names, name)
		}
	}
	return names
}

// fingerprint hashes names and contents below a directory, but for one below it.
func fingerprint(dir, except string) (string, error) {
	var lines []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case path == except:
			return filepath.SkipDir
		case entry.IsDir():
			lines = append(lines, path)
			return nil
		}
		text, err := os.ReadFile(path)
		lines = append(lines, fmt.Sprintf("%s %x", path, sha256.Sum256(text)))
		return err
	})
	slices.Sort(lines)
	return strings.Join(lines, "\n"), err
}
