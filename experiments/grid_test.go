package experiments

import (
	_ "embed"
	"errors"
	"math"
	"strings"
	"testing"

	"jambalaya/configs"
	"jambalaya/internal/config"
)

// tiny is the grid of the tests: two variants of a model of two layers.
//
//go:embed testdata/tiny.yaml
var tiny string

func load(t *testing.T, text string, set ...string) (*Grid, error) {
	t.Helper()
	spec, err := LoadSpec(config.File{Name: "grid.yaml", Text: []byte(text)}, set)
	if err != nil {
		return nil, err
	}
	return NewGrid(spec)
}

// preset loads a grid that has a name.
func preset(t *testing.T, name string) (Spec, *Grid) {
	t.Helper()
	file, err := configs.LoadGrid(name)
	if err != nil {
		t.Fatal(err)
	}
	spec, err := LoadSpec(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	g, err := NewGrid(spec)
	if err != nil {
		t.Fatal(err)
	}
	return spec, g
}

func TestPresets(t *testing.T) {
	t.Parallel()
	for _, name := range configs.Grids() {
		spec, g := preset(t, name)
		if len(spec.Seeds) < 3 {
			t.Errorf("%s: %d seeds", name, len(spec.Seeds))
		}
		want := measureOf(spec.Match.By, g.Reference().Config)
		for _, a := range g.Arms {
			if off := measureOf(spec.Match.By, a.Config)/want - 1; spec.Match.By != MatchNone && (math.Abs(off) > 0.01 || off != a.Match) {
				t.Errorf("%s: %s is off by %v, and says %v", name, a.Name, off, a.Match)
			}
		}
	}
}

func TestRatioPreset(t *testing.T) {
	t.Parallel()
	_, g := preset(t, "ablation_ratio")
	var layers []int
	for _, a := range g.Arms {
		layers = append(layers, a.Cost.AttentionLayers)
		for i, kind := range a.Config.Model.LayerKinds() {
			if want := g.Reference().Config.Model.LayerKinds()[i].FFN; kind.FFN != want {
				t.Errorf("%s: layer %d has another feed-forward than the reference's", a.Name, i)
			}
		}
	}
	if len(g.Cells) != 15 || len(layers) != 5 || layers[0] != 8 || layers[1] != 4 || layers[2] != 2 || layers[3] != 1 || layers[4] != 0 {
		t.Errorf("%d cells, attention layers %v", len(g.Cells), layers)
	}
	if g.Arms[0].Hub == nil || g.Arms[3].Hub != nil {
		t.Error("only attention with positions is beyond the hub's format", g.Arms[0].Hub, g.Arms[3].Hub)
	}
}

// TestRefused holds the ways in which a grid can be wrong, and what is said.
func TestRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ old, new, says string }{
		{"base: test-tiny", "base: test-tinny", "did you mean test-tiny?"},
		{"seeds: [1, 2]", "seed: [1, 2]", "did you mean seeds?"},
		{"seeds: [1, 2]", "seeds: [1, 1]", "seeds: has 1 twice"},
		{"seeds: [1, 2]", "seeds: []", "seeds: has 0 entries"},
		{"reference: hybrid", "reference: none", `"none" is none of the variants`},
		{"name: mamba", "name: hybrid", "two of them are called hybrid"},
		{"name: mamba", "name: ../x", "variants[1].name"},
		{"attn_layer_offset=2]", "attn_layer_offset=3]", "variant mamba: --set model.attn_layer_offset=3: model.attn_layer_offset: 3 must be"},
		{"attn_layer_offset=2]", "attn_layer_ofset=2]", "variant mamba: --set model.attn_layer_ofset=2: model.attn_layer_ofset: unknown key; did you mean model.attn_layer_offset?"},
		{"attn_layer_offset=2]", "attn_layer_offset=2, trainer.steps=7]", "variant mamba: trainer.steps is 7, that of hybrid is 6: all variants of a seed have to see the same samples"},
		{"attn_layer_offset=2]", "attn_layer_offset=2, data.tokenizer=r50k_base]", "variant mamba: data.tokenizer"},
		{"attn_layer_offset=2]", "attn_layer_offset=2, model.hidden_size=64]", "variant mamba: no model.intermediate_size brings its parameters within 1% of hybrid's"},
		{"trainer.steps=6", "trainer.minutes=1", "trainer.minutes: --set trainer.minutes=1 sets a time"},
		{"lengths: [16, 32]", "lengths: [16, 24]", "24 does not divide data.sequence_length, 32"},
		{"lengths: [16, 32]", "lengths: [8]", "recall.lengths"},
		{"share: 0.5", "share: 1", "recall.share"},
		{"contexts: [64, 4096]", "contexts: [64, 64]", "contexts"},
	} {
		text := strings.Replace(tiny, c.old, c.new, 1)
		if text == tiny {
			t.Fatalf("%q is not in the grid", c.old)
		}
		if _, err := load(t, text); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got %v, want %s", c.new, err, c.says)
		}
	}
}

func TestAssignments(t *testing.T) {
	t.Parallel()
	g, err := load(t, tiny, "seeds=[4]", "trainer.steps=9")
	if err != nil {
		t.Fatal(err)
	}
	if len(g.Cells) != 2 || g.Cells[1].Seed != 4 || g.Cells[1].Config.Trainer.Seed != 4 || g.Cells[1].Config.Trainer.Steps != 9 {
		t.Errorf("%+v", g.Cells[1])
	}
	if _, err := load(t, tiny, "trainer.stepz=9"); !errors.Is(err, config.ErrInvalid) {
		t.Error(err)
	}
}

func TestNearestWidth(t *testing.T) {
	t.Parallel()
	size := func(w int) float64 { return float64(100 + 3*w) }
	for _, c := range []struct {
		target   float64
		multiple int
		want     int
	}{
		{103, 1, 1}, {0, 1, 1}, {160, 1, 20}, {161, 1, 20}, {162, 1, 21}, {160, 16, 16}, {180, 16, 32}, {1e12, 4, maxWidth},
	} {
		if got := nearestWidth(size, c.target, c.multiple); got != c.want {
			t.Errorf("%+v: %d", c, got)
		}
	}
}
