package model

import (
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jambalaya/internal/safetensors"
)

const goldenDir = "testdata/golden"

// goldenCases are the folders of the reference implementation's cases.
func goldenCases(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(goldenDir, "*", "config.json"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden cases in %s (%v)", goldenDir, err)
	}
	for i, file := range files {
		files[i] = filepath.Base(filepath.Dir(file))
	}
	return files
}

func goldenConfig(t testing.TB, name string) Config {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(goldenDir, name, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	c, err := ReadHFConfig(text)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// memorySource is a checkpoint in memory that counts how often each tensor is read.
type memorySource struct {
	shapes map[string][]int
	data   map[string][]float32
	reads  map[string]int
}

func (s *memorySource) Shapes() map[string][]int { return s.shapes }

func (s *memorySource) Tensor(name string) ([]float32, error) {
	s.reads[name]++
	return s.data[name], nil
}

func newMemorySource() *memorySource {
	return &memorySource{map[string][]int{}, map[string][]float32{}, map[string]int{}}
}

func goldenWeights(t testing.TB, name string) *memorySource {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(goldenDir, name, "model.safetensors"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := safetensors.Decode(text)
	if err != nil {
		t.Fatal(err)
	}
	source := newMemorySource()
	for _, info := range file.Tensors {
		for _, n := range info.Shape {
			source.shapes[info.Name] = append(source.shapes[info.Name], int(n))
		}
		tensor, err := file.Tensor(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		if source.data[info.Name], err = tensor.Float32s(); err != nil {
			t.Fatal(err)
		}
	}
	return source
}

func allocate(c Config) [][]float32 {
	var values [][]float32
	for _, p := range c.Params() {
		values = append(values, make([]float32, p.Size()))
	}
	return values
}

// TestHubRoundTrip loads the reference's weights and exports them again.
func TestHubRoundTrip(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases(t) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, source := goldenConfig(t, name), goldenWeights(t, name)
			values := allocate(c)
			for _, v := range values {
				fill(v, float32(math.NaN()))
			}
			if err := c.LoadHub(values, source); err != nil {
				t.Fatal(err)
			}
			for i, p := range c.Params() {
				if slices.ContainsFunc(values[i], func(v float32) bool { return v != v }) {
					t.Errorf("%s was not filled", p.Name)
				}
			}
			exported := newMemorySource()
			err := c.ExportHub(values, func(name string, shape []int, data []float32) error {
				exported.shapes[name], exported.data[name] = slices.Clone(shape), slices.Clone(data)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			if !maps.EqualFunc(exported.shapes, source.shapes, slices.Equal) {
				t.Errorf("exported shapes %v, want %v", exported.shapes, source.shapes)
			}
			if !maps.EqualFunc(exported.data, source.data, slices.Equal) {
				t.Error("exported data differs from what was loaded")
			}
			for name := range source.shapes {
				if source.reads[name] != 1 {
					t.Errorf("%s was read %d times", name, source.reads[name])
				}
			}
		})
	}
}

// TestHubPlaces checks where the pieces of fused parameters go.
func TestHubPlaces(t *testing.T) {
	t.Parallel()
	c, source := goldenConfig(t, "jamba_1to7"), goldenWeights(t, "jamba_1to7")
	values := allocate(c)
	if err := c.LoadHub(values, source); err != nil {
		t.Fatal(err)
	}
	param := func(name string) []float32 {
		return values[slices.IndexFunc(c.Params(), func(p Param) bool { return p.Name == name })]
	}
	hidden, inner, d := c.HiddenSize, c.IntermediateSize, c.InnerSize()
	keyValue := c.KeyValueHeads() * c.HeadDim()
	expert := 2 * inner * hidden
	in := source.data["model.layers.0.mamba.in_proj.weight"]
	for _, test := range []struct {
		what      string
		got, want []float32
	}{
		{"x", param("layers.0.mamba.in_proj_x.weight"), in[:d*hidden]},
		{"z", param("layers.0.mamba.in_proj_z.weight"), in[d*hidden:]},
		{"query", param("layers.4.self_attn.qkv_proj.weight")[:hidden*hidden], source.data["model.layers.4.self_attn.q_proj.weight"]},
		{"key", param("layers.4.self_attn.qkv_proj.weight")[hidden*hidden : (hidden+keyValue)*hidden], source.data["model.layers.4.self_attn.k_proj.weight"]},
		{"value", param("layers.4.self_attn.qkv_proj.weight")[(hidden+keyValue)*hidden:], source.data["model.layers.4.self_attn.v_proj.weight"]},
		{"gate", param("layers.0.feed_forward.gate_up_proj.weight")[:inner*hidden], source.data["model.layers.0.feed_forward.gate_proj.weight"]},
		{"up", param("layers.0.feed_forward.gate_up_proj.weight")[inner*hidden:], source.data["model.layers.0.feed_forward.up_proj.weight"]},
		{"expert 2 gate", param("layers.1.feed_forward.experts.gate_up_proj")[2*expert:][:inner*hidden], source.data["model.layers.1.feed_forward.experts.2.gate_proj.weight"]},
		{"expert 2 up", param("layers.1.feed_forward.experts.gate_up_proj")[2*expert+inner*hidden:][:inner*hidden], source.data["model.layers.1.feed_forward.experts.2.up_proj.weight"]},
		{"expert 3 down", param("layers.1.feed_forward.experts.down_proj")[3*inner*hidden:], source.data["model.layers.1.feed_forward.experts.3.down_proj.weight"]},
	} {
		if !slices.Equal(test.got, test.want) {
			t.Errorf("%s is not where it belongs", test.what)
		}
	}
}

func TestHubMixtralExpert(t *testing.T) {
	t.Parallel()
	c, source := goldenConfig(t, "mixtral"), goldenWeights(t, "mixtral")
	values := allocate(c)
	if err := c.LoadHub(values, source); err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(c.Params(), func(p Param) bool { return p.Name == "layers.0.feed_forward.experts.gate_up_proj" })
	n := c.IntermediateSize * c.HiddenSize
	if !slices.Equal(values[i][:n], source.data["model.layers.0.block_sparse_moe.experts.0.w1.weight"]) ||
		!slices.Equal(values[i][n:2*n], source.data["model.layers.0.block_sparse_moe.experts.0.w3.weight"]) {
		t.Error("w1 is the gate and w3 is up")
	}
}

func TestLoadHubRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name  string
		spoil func(*memorySource)
		want  string
	}{
		{"missing", func(s *memorySource) { delete(s.shapes, "model.norm.weight") }, "model.norm.weight is missing"},
		{"extra", func(s *memorySource) { s.shapes["model.extra"] = []int{1} }, "model.extra has no place"},
		{"shape", func(s *memorySource) { s.shapes["model.norm.weight"] = []int{16, 2} }, "model.norm.weight has shape [16 2], want [32]"},
		{"short", func(s *memorySource) { s.data["model.norm.weight"] = nil }, "model.norm.weight has 0 elements, want 32"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c, source := goldenConfig(t, "llama2"), goldenWeights(t, "llama2")
			source.shapes["model.layers.0.self_attn.rotary_emb.inv_freq"] = []int{4} // ignored
			test.spoil(source)
			err := c.LoadHub(allocate(c), source)
			if !errors.Is(err, ErrHub) || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "inv_freq") {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
