package checkpoint

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"jambalaya/internal/prng"
	"jambalaya/internal/vfs"
)

// TestBitFlips flips 10,000 random bits one at a time, in all files in turn, and
// every bit of the manifest.
func TestBitFlips(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	save(t, open(t, mem, Options{}), 10)
	ctx, name := context.Background(), stepDir(10)
	files := children(t, mem, path.Join(dir, name))
	check := func(file string, good []byte, bit int) {
		bad := slices.Clone(good)
		bad[bit/8] ^= 1 << (bit % 8)
		rewrite(t, mem, path.Join(dir, name, file), bad)
		_, err := Verify(ctx, mem, dir, name)
		if !errors.Is(err, ErrCorrupt) && !(file == manifestName && errors.Is(err, ErrFormat)) {
			t.Errorf("bit %d of %s: error %v", bit, file, err)
		}
		rewrite(t, mem, path.Join(dir, name, file), good)
	}
	chance := prng.New(1, "flips")
	for i, file := range files {
		good := read(t, mem, path.Join(dir, name, file))
		if file == manifestName {
			for bit := 0; bit < len(good)*8; bit += stride {
				check(file, good, bit)
			}
			continue
		}
		for range (10_000/len(files) + i) / stride {
			check(file, good, chance.IntN(len(good)*8))
		}
	}
	if _, err := Verify(ctx, mem, dir, name); err != nil {
		t.Errorf("restored, yet %v", err)
	}
}

// TestDamagedFiles cuts, lengthens and removes each file of the newest of two
// checkpoints: the error names it, the older one is used, the damaged one is put
// aside.
func TestDamagedFiles(t *testing.T) {
	t.Parallel()
	pristine := vfs.NewMem()
	save(t, open(t, pristine, Options{}), 10, 20)
	newest := path.Join(dir, stepDir(20))
	damages := map[string]func(fsys vfs.FS, name string, data []byte) error{
		"removed": func(fsys vfs.FS, name string, _ []byte) error { return fsys.Remove(name) },
		"emptied": func(fsys vfs.FS, name string, _ []byte) error {
			return errors.Join(fsys.Remove(name), vfs.WriteFile(fsys, name, nil))
		},
		"cut": func(fsys vfs.FS, name string, data []byte) error {
			return errors.Join(fsys.Remove(name), vfs.WriteFile(fsys, name, data[:len(data)-1]))
		},
		"longer": func(fsys vfs.FS, name string, data []byte) error {
			return errors.Join(fsys.Remove(name), vfs.WriteFile(fsys, name, append(slices.Clone(data), '\n')))
		},
		"a directory": func(fsys vfs.FS, name string, _ []byte) error {
			return errors.Join(fsys.Remove(name), fsys.Mkdir(name))
		},
	}
	for _, file := range children(t, pristine, newest) {
		for damage, do := range damages {
			mem := vfs.NewMem()
			m := open(t, mem, Options{})
			save(t, m, 10, 20)
			name := path.Join(newest, file)
			if err := do(mem, name, read(t, mem, name)); err != nil {
				t.Fatal(err)
			}
			c, skipped := latest(t, m)
			if c.Manifest.Step != 10 || len(skipped) != 1 {
				t.Fatalf("%s %s: step %d, skipped %v", file, damage, c.Manifest.Step, skipped)
			}
			if file == manifestName && damage == "a directory" {
				continue // cannot be read, so nothing is known of it: it stays
			}
			s := skipped[0]
			if !errors.Is(s.Err, ErrCorrupt) || !strings.Contains(s.String(), file) || s.MovedTo != "quarantine/step-00000020" {
				t.Errorf("%s %s: %v", file, damage, s)
			}
			if _, err := mem.Stat(newest); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s %s: it is still there", file, damage)
			}
			save(t, m, 20)
		}
	}
}

func TestAllDamaged(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	m := open(t, mem, Options{})
	for range 2 { // the second time, its name in quarantine is taken
		save(t, m, 10)
		rewrite(t, mem, path.Join(dir, stepDir(10), stateName), []byte("{}"))
		_, skipped, err := m.Latest(context.Background())
		wantErr(t, err, ErrNone)
		if len(skipped) != 1 {
			t.Errorf("skipped %v", skipped)
		}
	}
	if got := children(t, mem, dir+"/quarantine"); !slices.Equal(got, []string{"step-00000010", "step-00000010.1"}) {
		t.Errorf("in quarantine: %v", got)
	}
}

// TestUnreadableIsNotCorrupt lets reading fail: the checkpoint is skipped, but
// stays where it is.
func TestUnreadableIsNotCorrupt(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	save(t, open(t, mem, Options{}), 10, 20)
	m := open(t, vfs.NewFaults(mem, func(op vfs.Op) error {
		if op.Kind == "read" && strings.Contains(op.Name, "step-00000020/model") {
			return syscall.EIO
		}
		return nil
	}), Options{})
	c, skipped := latest(t, m)
	if c.Manifest.Step != 10 || len(skipped) != 1 || !errors.Is(skipped[0].Err, syscall.EIO) || skipped[0].MovedTo != "" {
		t.Errorf("step %d, skipped %v", c.Manifest.Step, skipped)
	}
	if got := steps(t, mem); !slices.Equal(got, []int64{20, 10}) {
		t.Errorf("published %v", got)
	}
}

// TestNewerFormat must not be taken for damage.
func TestNewerFormat(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	m := open(t, mem, Options{})
	save(t, m, 10, 20)
	name := path.Join(dir, stepDir(20), manifestName)
	text := strings.Replace(string(read(t, mem, name)), `"format": 1`, `"format": 2, "new": true`, 1)
	rewrite(t, mem, name, []byte(text))
	c, skipped := latest(t, m)
	if c.Manifest.Step != 10 || len(skipped) != 1 || !errors.Is(skipped[0].Err, ErrFormat) || skipped[0].MovedTo != "" {
		t.Errorf("step %d, skipped %v", c.Manifest.Step, skipped)
	}
}

// TestSealedNonsense changes a file and its checksum, as a bug could: the tables
// must still agree with each other and with the tensors' files.
func TestSealedNonsense(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ file, from, to string }{
		"offset":    {indexName, `"offset":192`, `"offset":196`},
		"type":      {indexName, `"dtype":"F32","shape":[6]`, `"dtype":"I32","shape":[6]`},
		"shape":     {indexName, `"shape":[6]`, `"shape":[7]`},
		"file":      {indexName, `"file":"expert-L01-E001.safetensors"`, `"file":"../../x"`},
		"no JSON":   {indexName, `{`, `[`},
		"step":      {stateName, `"step": 10`, `"step": 11`},
		"cursor":    {stateName, `"cursor": 80`, `"cursor": -1`},
		"no header": {"model-r0000-of-0001.safetensors", `{"embed"`, `["embed"`},
	} {
		mem := vfs.NewMem()
		save(t, open(t, mem, Options{}), 10)
		at := path.Join(dir, stepDir(10))
		text := strings.Replace(string(read(t, mem, path.Join(at, c.file))), c.from, c.to, 1)
		rewrite(t, mem, path.Join(at, c.file), []byte(text))
		m, err := readManifest(mem, at)
		if err != nil {
			t.Fatal(err)
		}
		for i := range m.Files {
			if f := &m.Files[i]; f.Name == c.file {
				f.Size, f.SHA256 = int64(len(text)), fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
			}
		}
		sealed, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		rewrite(t, mem, path.Join(at, manifestName), sealed)
		_, err = Verify(context.Background(), mem, dir, stepDir(10))
		if !errors.Is(err, ErrCorrupt) || strings.Contains(err.Error(), "checksum") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestGone deletes a checkpoint while a reader is at it, as a run that goes on
// does: the reader takes another one, and nothing is called damaged.
func TestGone(t *testing.T) {
	t.Parallel()
	for _, file := range []string{manifestName, "model-r0000-of-0001.safetensors"} {
		mem := vfs.NewMem()
		save(t, open(t, mem, Options{}), 10, 20)
		name := path.Join(dir, stepDir(20))
		reader := vfs.NewFaults(mem, func(op vfs.Op) error {
			if op.Kind == "open" && op.Name == path.Join(name, file) {
				return vfs.RemoveAll(mem, name)
			}
			return nil
		})
		c, skipped, err := Find(context.Background(), reader, dir)
		if err != nil || c.Manifest.Step != 10 || len(skipped) > 0 {
			t.Errorf("%s: found %v, skipped %v, error %v", file, c, skipped, err)
		}
	}
	_, err := Verify(context.Background(), vfs.NewMem(), dir, stepDir(1))
	wantErr(t, err, ErrGone)
}

func TestVerifyStops(t *testing.T) {
	t.Parallel()
	mem := vfs.NewMem()
	m := open(t, mem, Options{})
	save(t, m, 10)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, skipped, err := m.Latest(ctx)
	wantErr(t, err, context.Canceled)
	if len(skipped) > 0 || len(steps(t, mem)) != 1 {
		t.Errorf("an interruption cost %v", skipped)
	}
}

func TestManifestNames(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"../x", "/etc/passwd", "a/b", ".hidden", "", "..", "a\\b", "a\x00", strings.Repeat("a", 200), manifestName, indexName} {
		sum := strings.Repeat("0", 64)
		m := &Manifest{Format: FormatVersion, Files: []FileSum{{indexName, 1, sum}, {stateName, 1, sum}, {name, 1, sum}}}
		text, err := m.encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := decodeManifest(text); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a manifest with the file %q: error %v", name, err)
		}
	}
	for _, name := range []string{"step-1", "step-0000001x", "step--0000001", "step-000000010", "step-99999999999999999999", "xstep-00000001"} {
		if step, ok := parseStep(name); ok {
			t.Errorf("%s was read as step %d", name, step)
		}
	}
	for _, step := range []int64{0, 1, 99_999_999, 100_000_000, 1 << 60} {
		if got, ok := parseStep(stepDir(step)); !ok || got != step {
			t.Errorf("step %d came back as %d, %v", step, got, ok)
		}
	}
}

func FuzzManifest(f *testing.F) {
	sum := strings.Repeat("0", 64)
	m := &Manifest{Format: FormatVersion, Mesh: map[string]int{"data": 2}, Files: []FileSum{{indexName, 1, sum}, {stateName, 1, sum}}}
	text, err := m.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"format":99}`))
	f.Add([]byte(`{"files":[{"size":-1}]}`))
	f.Add([]byte(strings.Replace(string(text), "size", "Size", 1)))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := decodeManifest(text)
		if err != nil {
			return
		}
		again, err := m.encode()
		if err != nil || string(again) != string(text) {
			t.Fatalf("accepted %q, which is written %q (%v)", text, again, err)
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add([]byte(`{"tensors":[{"name":"a","dtype":"F32","shape":[2,3],"parts":[
		{"file":"x","offset":8,"length":24,"start":[0,0],"extent":[2,3]}]}]}`))
	f.Add([]byte(`{"tensors":[{"name":"a","dtype":"U8","shape":[4],"parts":[
		{"file":"x","offset":8,"length":2,"start":[0],"extent":[2]},{"file":"x","offset":10,"length":2,"start":[2],"extent":[2]}]}]}`))
	f.Add([]byte(`{"tensors":[{"name":"a","dtype":"F32","shape":[4611686018427387904,4,0],"parts":[]}]}`))
	f.Add([]byte(`{"tensors":[{"name":"a","dtype":"F32","shape":[],"parts":[{"length":4}]}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		x, err := decodeIndex(text)
		if err != nil {
			return
		}
		for _, tensor := range x.Tensors {
			for _, p := range tensor.Parts {
				if p.Length < 0 || p.Offset < 0 || !p.inside(tensor.Shape) {
					t.Fatalf("accepted %+v", p)
				}
			}
		}
	})
}

func FuzzState(f *testing.F) {
	text, err := (&State{Step: 3, Trainer: []byte(`{"a":[1]}`)}).encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"step":-1}`))
	f.Add([]byte(fmt.Sprintf(`{"seed":%d}`, uint64(1<<63))))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := decodeState(text)
		if err != nil {
			return
		}
		if _, err := s.encode(); err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
	})
}
