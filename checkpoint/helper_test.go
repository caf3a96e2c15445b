package checkpoint

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"

	"jambalaya/internal/prng"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

const dir = "checkpoints"

// values are the elements of a tensor at a step.
func values(step int64, name string, n int) []float32 {
	r := prng.New(uint64(step), name)
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(r.Normal())
	}
	return out
}

// shapes are the tensors of every snapshot here.
var shapes = []struct {
	name  string
	shape []int64
}{
	{"embed", []int64{7, 5}}, {"scale", []int64{}}, {"norm", []int64{6}}, {"experts", []int64{3, 4, 5}}, {"adam.m/embed", []int64{7, 5}},
}

func elements(shape []int64) int { return int(whole(shape).size()) }

// snapshot is the state of a step: whole tensors, one that is cut by experts and
// one that is cut by columns.
func snapshot(step int64) *Snapshot {
	s := &Snapshot{State: State{
		Step: step, Seed: 1 << 63, Cursor: step * 8, ConfigHash: "c", LearningRate: 0.1, CPUPath: "avx2",
		Trainer: json.RawMessage(fmt.Sprintf(`{"tokens":%d}`, step*100)),
	}}
	for _, t := range shapes {
		data := values(step, t.name, elements(t.shape))
		tensor := Tensor{Name: t.name, Group: GroupModel, DType: safetensors.F32, Shape: t.shape}
		switch t.name {
		case "experts":
			for e := range int64(3) {
				tensor.Group = ExpertGroup(1, int(e))
				tensor.Start, tensor.Extent = []int64{e, 0, 0}, []int64{1, 4, 5}
				tensor.Data = safetensors.Bytes(data[e*20 : (e+1)*20])
				s.Tensors = append(s.Tensors, tensor)
			}
			continue
		case "adam.m/embed":
			tensor.Group = GroupOptim
			for _, cut := range [][2]int64{{0, 2}, {2, 3}} {
				tensor.Start, tensor.Extent = []int64{0, cut[0]}, []int64{7, cut[1]}
				tensor.Data = safetensors.Bytes(columns(data, 5, cut[0], cut[1]))
				s.Tensors = append(s.Tensors, tensor)
			}
			continue
		}
		tensor.Data = safetensors.Bytes(data)
		s.Tensors = append(s.Tensors, tensor)
	}
	return s
}

func columns(data []float32, width, from, n int64) []float32 {
	var out []float32
	for row := range int64(len(data)) / width {
		out = append(out, data[row*width+from:row*width+from+n]...)
	}
	return out
}

// checkContents compares a checkpoint with the snapshot of its step.
func checkContents(c *Checkpoint) error {
	step := c.Manifest.Step
	if c.State.Cursor != step*8 || c.State.Seed != 1<<63 || c.State.Step != step {
		return fmt.Errorf("step %d: state %+v", step, c.State)
	}
	if len(c.Tensors()) != len(shapes) {
		return fmt.Errorf("step %d: %d tensors", step, len(c.Tensors()))
	}
	for _, t := range shapes {
		got := make([]float32, elements(t.shape))
		if err := c.Load(t.name, got); err != nil {
			return err
		}
		if !slices.Equal(got, values(step, t.name, len(got))) {
			return fmt.Errorf("step %d: %s differs", step, t.name)
		}
	}
	return nil
}

func open(t testing.TB, fsys vfs.FS, opt Options) *Manager {
	t.Helper()
	if opt.Config == (Config{}) {
		opt.Config = Default()
	}
	m, err := Open(fsys, dir, opt)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func save(t testing.TB, m *Manager, steps ...int64) {
	t.Helper()
	for _, step := range steps {
		if err := errors.Join(m.Save(snapshot(step)), m.Wait()); err != nil {
			t.Fatal(err)
		}
	}
}

func latest(t testing.TB, m *Manager) (*Checkpoint, []Skipped) {
	t.Helper()
	c, skipped, err := m.Latest(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if err := checkContents(c); err != nil {
		t.Fatal(err)
	}
	return c, skipped
}

// steps lists the published steps, newest first.
func steps(t testing.TB, fsys vfs.FS) []int64 {
	t.Helper()
	entries, err := List(fsys, dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []int64
	for _, e := range entries {
		out = append(out, e.Step)
	}
	return out
}

// children lists the names in a directory.
func children(t testing.TB, fsys vfs.FS, name string) []string {
	t.Helper()
	entries, err := fsys.ReadDir(name)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// rewrite replaces a file's contents.
func rewrite(t testing.TB, fsys vfs.FS, name string, data []byte) {
	t.Helper()
	if err := errors.Join(fsys.Remove(name), vfs.WriteFile(fsys, name, data)); err != nil {
		t.Fatal(err)
	}
}

func read(t testing.TB, fsys vfs.FS, name string) []byte {
	t.Helper()
	data, err := vfs.ReadFile(fsys, name, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func wantErr(t *testing.T, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
}
