package checkpoint

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"jambalaya/internal/prng"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

// cut takes a box out of a row-major tensor, element by element.
func cut(data []float32, shape []int64, b box) []float32 {
	if b.size() == 0 {
		return nil
	}
	var out []float32
	full := whole(shape)
	index := slices.Clone(b.Start)
	for {
		out = append(out, data[full.offset(index)])
		d := len(index) - 1
		for ; d >= 0; d-- {
			if index[d]++; index[d] < b.Start[d]+b.Extent[d] {
				break
			}
			index[d] = b.Start[d]
		}
		if d < 0 {
			return out
		}
	}
}

// grid cuts a shape into boxes at random places of each dimension.
func grid(r *prng.Rand, shape []int64) []box {
	boxes := []box{{[]int64{}, []int64{}}}
	for _, dim := range shape {
		edges := []int64{0, dim}
		for range r.IntN(3) {
			edges = append(edges, int64(r.IntN(int(dim)+1)))
		}
		slices.Sort(edges)
		edges = slices.Compact(edges)
		var next []box
		for _, b := range boxes {
			for i := range len(edges) - 1 {
				next = append(next, box{append(slices.Clone(b.Start), edges[i]), append(slices.Clone(b.Extent), edges[i+1]-edges[i])})
			}
		}
		boxes = next
	}
	return boxes
}

// TestReshard saves tensors in random grids over several files and loads other
// random boxes of them.
func TestReshard(t *testing.T) {
	t.Parallel()
	for seed := range uint64(60) {
		r := prng.New(seed, "reshard")
		shape := make([]int64, r.IntN(5))
		for d := range shape {
			shape[d] = int64(1 + r.IntN(6))
		}
		data := values(int64(seed), "x", elements(shape))
		s := &Snapshot{State: State{Step: 1}}
		for i, b := range grid(r, shape) {
			s.Tensors = append(s.Tensors, Tensor{
				Name: "x", Group: ExpertGroup(0, i%3), DType: safetensors.F32, Shape: shape,
				Start: b.Start, Extent: b.Extent, Data: safetensors.Bytes(cut(data, shape, b)),
			})
		}
		m := open(t, vfs.NewMem(), Options{})
		if err := m.Save(s); err != nil {
			t.Fatal(err)
		}
		c, _, err := m.waitAndFind()
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range append(grid(r, shape), whole(shape)) {
			expected := cut(data, shape, want)
			got := make([]float32, len(expected))
			if err := c.LoadSlice("x", want.Start, want.Extent, safetensors.Bytes(got)); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(got, expected) {
				t.Fatalf("seed %d: shape %v, box %+v: got %v, want %v", seed, shape, want, got, expected)
			}
		}
	}
}

func (m *Manager) waitAndFind() (*Checkpoint, []Skipped, error) {
	if err := m.Wait(); err != nil {
		return nil, nil, err
	}
	return m.Latest(context.Background())
}

func TestLoadErrors(t *testing.T) {
	t.Parallel()
	m := open(t, vfs.NewMem(), Options{})
	save(t, m, 10)
	c, _ := latest(t, m)
	wantErr(t, c.Load("none", nil), ErrNoTensor)
	wantErr(t, c.Load("norm", make([]float32, 5)), ErrSnapshot)
	for _, b := range []box{{[]int64{0}, []int64{7}}, {[]int64{-1}, []int64{2}}, {[]int64{6}, []int64{1}}, {[]int64{0, 0}, []int64{1, 1}}, {nil, []int64{6}}} {
		wantErr(t, c.LoadSlice("norm", b.Start, b.Extent, make([]byte, 24)), ErrSnapshot)
	}
	wantErr(t, c.LoadSlice("norm", []int64{2}, []int64{2}, make([]byte, 7)), ErrSnapshot)
	_, err := c.Info("none")
	wantErr(t, err, ErrNoTensor)
}

func TestOtherTypes(t *testing.T) {
	t.Parallel()
	m := open(t, vfs.NewMem(), Options{})
	ids := []int32{3, -4, 5}
	s := &Snapshot{State: State{Step: 1}, Tensors: []Tensor{
		{Name: "half", Group: GroupModel, DType: safetensors.BF16, Shape: []int64{2}, Data: safetensors.Bytes([]uint16{0x3f80, 0xc000})},
		{Name: "ids", Group: GroupModel, DType: safetensors.I32, Shape: []int64{3}, Data: safetensors.Bytes(ids)},
		{Name: "empty", Group: GroupOptim, DType: safetensors.F32, Shape: []int64{0, 3}},
	}}
	if err := m.Save(s); err != nil {
		t.Fatal(err)
	}
	c, _, err := m.waitAndFind()
	if err != nil {
		t.Fatal(err)
	}
	half := make([]float32, 2)
	if err := c.Load("half", half); err != nil || !slices.Equal(half, []float32{1, -2}) {
		t.Errorf("half = %v, %v", half, err)
	}
	raw := make([]byte, 12)
	if err := c.LoadSlice("ids", nil, nil, raw); err != nil || !bytes.Equal(raw, safetensors.Bytes(ids)) {
		t.Errorf("ids = %v, %v", raw, err)
	}
	wantErr(t, c.Load("ids", make([]float32, 3)), safetensors.ErrType)
	if err := c.Load("empty", nil); err != nil {
		t.Error(err)
	}
}

// TestLargeFilesInParallel saves enough for several files at a time.
func TestLargeFilesInParallel(t *testing.T) {
	t.Parallel()
	root, err := vfs.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	const files, size = 8, smallBatch / 8
	data := make([]byte, size)
	data[size-1] = 7
	s := &Snapshot{State: State{Step: 1}}
	for i := range files {
		s.Tensors = append(s.Tensors, Tensor{Name: fmt.Sprint(i), Group: ExpertGroup(0, i), DType: safetensors.U8, Shape: []int64{size}, Data: data})
	}
	m := open(t, root, Options{})
	if err := m.Save(s); err != nil {
		t.Fatal(err)
	}
	c, _, err := m.waitAndFind()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 1)
	for i := range files {
		if err := c.LoadSlice(fmt.Sprint(i), []int64{size - 1}, []int64{1}, got); err != nil || got[0] != 7 {
			t.Errorf("tensor %d ends with %d, %v", i, got[0], err)
		}
	}
}

// TestFormatV1 reads a checkpoint of the first version, which never changes.
func TestFormatV1(t *testing.T) {
	t.Parallel()
	root, err := vfs.Dir("testdata/format_v1")
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	c, skipped, err := Find(context.Background(), root, ".")
	if err != nil || len(skipped) > 0 {
		t.Fatalf("skipped %v, error %v", skipped, err)
	}
	if err := checkContents(c); err != nil {
		t.Error(err)
	}
}

func benchmarkSnapshot() *Snapshot {
	s := &Snapshot{State: State{Step: 0}}
	for i := range 16 {
		s.Tensors = append(s.Tensors, Tensor{Name: fmt.Sprint(i), Group: ExpertGroup(0, i), DType: safetensors.U8,
			Shape: []int64{4 << 20}, Data: make([]byte, 4<<20)})
	}
	return s
}

// BenchmarkSave writes 64 MiB to disk; stall-ms is what training waits.
func BenchmarkSave(b *testing.B) {
	root, err := vfs.Dir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	var stall float64
	m := open(b, root, Options{Config: Config{Every: 1, Keep: 1 << 30, MaxFailures: 1},
		Done: func(r Result) { stall += r.Copied.Seconds() * 1000 }})
	s := benchmarkSnapshot()
	b.SetBytes(64 << 20)
	for b.Loop() {
		s.State.Step++
		if err := m.Save(s); err != nil {
			b.Fatal(err)
		}
		if err := m.Wait(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(stall/float64(b.N), "stall-ms")
}

func BenchmarkVerify(b *testing.B) {
	root, err := vfs.Dir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	defer root.Close()
	m := open(b, root, Options{})
	if err := m.Save(benchmarkSnapshot()); err != nil {
		b.Fatal(err)
	}
	if err := m.Wait(); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(64 << 20)
	for b.Loop() {
		if _, err := Verify(context.Background(), root, dir, stepDir(0)); err != nil {
			b.Fatal(err)
		}
	}
}
