package model

import (
	"fmt"
	"strings"
	"testing"
)

// TestParamsOrder fixes names, shapes and order: checkpoints depend on them.
func TestParamsOrder(t *testing.T) {
	t.Parallel()
	c := Default()
	c.NumHiddenLayers, c.LayerPattern, c.MambaProjBias = 2, "mA", true
	const want = `embed_tokens.weight [256 128] decay
layers.0.input_layernorm.weight [128]
layers.0.mamba.in_proj_x.weight [256 128] decay
layers.0.mamba.in_proj_x.bias [256]
layers.0.mamba.in_proj_z.weight [256 128] decay
layers.0.mamba.in_proj_z.bias [256]
layers.0.mamba.conv1d.weight [256 4] decay
layers.0.mamba.conv1d.bias [256]
layers.0.mamba.x_proj.weight [40 256] decay
layers.0.mamba.dt_layernorm.weight [8]
layers.0.mamba.b_layernorm.weight [16]
layers.0.mamba.c_layernorm.weight [16]
layers.0.mamba.dt_proj.weight [256 8] decay
layers.0.mamba.dt_proj.bias [256]
layers.0.mamba.A_log [256 16]
layers.0.mamba.D [256]
layers.0.mamba.out_proj.weight [128 256] decay
layers.0.mamba.out_proj.bias [128]
layers.0.pre_ff_layernorm.weight [128]
layers.0.feed_forward.gate_up_proj.weight [512 128] decay
layers.0.feed_forward.down_proj.weight [128 256] decay
layers.1.input_layernorm.weight [128]
layers.1.self_attn.qkv_proj.weight [256 128] decay
layers.1.self_attn.o_proj.weight [128 128] decay
layers.1.pre_ff_layernorm.weight [128]
layers.1.feed_forward.router.weight [4 128] decay
layers.1.feed_forward.experts.gate_up_proj [4 512 128] decay expert
layers.1.feed_forward.experts.down_proj [4 128 256] decay expert
final_layernorm.weight [128]
lm_head.weight [256 128] decay
`
	var got strings.Builder
	for _, p := range c.Params() {
		fmt.Fprintf(&got, "%s %v", p.Name, p.Shape)
		if !p.NoDecay {
			got.WriteString(" decay")
		}
		if p.Expert {
			got.WriteString(" expert")
		}
		got.WriteString("\n")
		if prefix := LayerPrefix(p.Layer); p.Layer >= 0 != strings.HasPrefix(p.Name, "layers.") || p.Layer >= 0 && !strings.HasPrefix(p.Name, prefix) {
			t.Errorf("%s says it is in layer %d", p.Name, p.Layer)
		}
	}
	if got.String() != want {
		t.Errorf("got\n%swant\n%s", got.String(), want)
	}
	c.TieWordEmbeddings = true
	if params := c.Params(); params[len(params)-1].Name != FinalLayernorm {
		t.Error("a tied model has no head of its own")
	}
}

// TestHubTensorsCoverParams checks that every element has one place.
func TestHubTensorsCoverParams(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases(t) {
		c := goldenConfig(t, name)
		params := c.Params()
		next := make([]int, len(params))
		for _, tensor := range c.HubTensors() {
			size := 0
			for _, part := range tensor.Parts {
				if part.Offset != next[part.Param] {
					t.Errorf("%s: %s begins at %d of %s, want %d", name, tensor.Name, part.Offset, params[part.Param].Name, next[part.Param])
				}
				next[part.Param] += part.Length
				size += part.Length
			}
			if size != tensor.Size() {
				t.Errorf("%s: the parts of %s have %d elements, want %d", name, tensor.Name, size, tensor.Size())
			}
		}
		for i, p := range params {
			if next[i] != p.Size() {
				t.Errorf("%s: %d of %d elements of %s are on the hub", name, next[i], p.Size(), p.Name)
			}
		}
	}
}
