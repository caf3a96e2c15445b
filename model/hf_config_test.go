package model

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// TestReadHFConfigGolden spells out what the reference's files say.
func TestReadHFConfigGolden(t *testing.T) {
	t.Parallel()
	jamba := Config{
		ModelType: Jamba, VocabSize: 96, HiddenSize: 32, IntermediateSize: 48, NumHiddenLayers: 8,
		NumAttentionHeads: 4, NumKeyValueHeads: 2,
		AttnLayerPeriod: 8, AttnLayerOffset: 4, ExpertLayerPeriod: 2, ExpertLayerOffset: 1,
		NumExperts: 4, NumExpertsPerTok: 2, RouterAuxScope: AuxBatch,
		MambaDState: 8, MambaDConv: 4, MambaExpand: 2, MambaDtRank: 2, MambaConvBias: true, MambaInnerNorms: true,
		DtInit: DtReference, RMSNormEps: 1e-6, InitializerRange: 0.02,
		PadTokenID: token(0), BosTokenID: token(1), EosTokenID: token(95),
	}
	with := func(change func(*Config)) Config {
		c := jamba
		change(&c)
		return c
	}
	attention := Config{
		VocabSize: 96, HiddenSize: 32, IntermediateSize: 48, NumHiddenLayers: 3, NumAttentionHeads: 4, NumKeyValueHeads: 2,
		RouterAuxScope: AuxBatch, InitializerRange: 0.02, PadTokenID: token(0), BosTokenID: token(1), EosTokenID: token(95),
	}
	llama, mixtral := attention, attention
	llama.ModelType, llama.RopeTheta, llama.RMSNormEps = Llama, 1e4, 1e-6
	mixtral.ModelType, mixtral.RopeTheta, mixtral.RMSNormEps = Mixtral, 1e6, 1e-5
	mixtral.NumExperts, mixtral.NumExpertsPerTok, mixtral.NormalizeTopK = 4, 2, true
	want := map[string]Config{
		"jamba_1to7": jamba,
		"jamba_1to3_top1_tied": with(func(c *Config) {
			c.NumHiddenLayers, c.AttnLayerPeriod, c.AttnLayerOffset, c.NumExpertsPerTok = 4, 4, 2, 1
			c.TieWordEmbeddings, c.MambaConvBias, c.MambaProjBias = true, false, true
		}),
		"jamba_attention_only": with(func(c *Config) { c.NumHiddenLayers, c.AttnLayerPeriod, c.AttnLayerOffset = 4, 1, 0 }),
		"jamba_mamba_only_dense": with(func(c *Config) {
			c.NumHiddenLayers, c.AttnLayerOffset, c.ExpertLayerPeriod, c.ExpertLayerOffset = 4, 7, 8, 7
		}),
		"jamba_odd_sizes": with(func(c *Config) {
			c.VocabSize, c.EosTokenID = 101, token(100)
			c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads, c.NumKeyValueHeads = 40, 56, 6, 5, 1
			c.AttnLayerPeriod, c.AttnLayerOffset, c.NumExperts, c.NumExpertsPerTok = 3, 1, 5, 3
			c.MambaDState, c.MambaDConv, c.MambaDtRank = 5, 3, 3
		}),
		"jamba_aux_loss": with(func(c *Config) {
			c.NumHiddenLayers, c.AttnLayerPeriod, c.AttnLayerOffset, c.NumExperts, c.RouterAuxLossCoef = 4, 4, 1, 8, 0.05
		}),
		"llama2":  llama,
		"mixtral": mixtral,
		"mamba": {
			ModelType: Mamba, VocabSize: 96, HiddenSize: 32, NumHiddenLayers: 3, RouterAuxScope: AuxBatch,
			MambaDState: 8, MambaDConv: 4, MambaExpand: 2, MambaDtRank: 2, MambaConvBias: true, DtInit: DtMamba,
			RMSNormEps: 1e-5, InitializerRange: 0.1, TieWordEmbeddings: true,
			PadTokenID: token(0), BosTokenID: token(1), EosTokenID: token(95),
		},
	}
	for _, name := range goldenCases(t) {
		if got := goldenConfig(t, name); !reflect.DeepEqual(got, want[name]) {
			t.Errorf("%s:\n got %+v\nwant %+v", name, got, want[name])
		}
	}
}

func TestReadHFConfigRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, json, want string }{
		{"not JSON", `{`, "config.json: unexpected end of JSON input"},
		{"no family", `{}`, "model_type is missing"},
		{"other family", `{"model_type": "bert"}`, `model_type "bert" is not one of`},
		{"type", `{"model_type": "jamba", "hidden_size": "big"}`, `hidden_size: "big" does not fit`},
		{"activation", `{"model_type": "jamba", "hidden_act": "gelu"}`, `hidden_act: "gelu" is not supported; only "silu"`},
		{"window", `{"model_type": "mixtral", "sliding_window": 4096}`, "sliding_window: 4096 is not supported; only null"},
		{"dropout", `{"model_type": "llama", "attention_dropout": 0.1}`, "attention_dropout: 0.1 is not supported; only null,0"},
		{"attention bias", `{"model_type": "llama", "attention_bias": true}`, "attention_bias: true is not supported"},
		{"jitter", `{"model_type": "mixtral", "router_jitter_noise": 0.01}`, "router_jitter_noise: 0.01 is not supported"},
		{"quantised", `{"model_type": "llama", "quantization_config": {"bits": 4}}`, `quantization_config: {"bits": 4} is not supported`},
		{"scaled positions, version 4", `{"model_type": "llama", "rope_scaling": {"type": "linear", "factor": 2}}`, "rope_scaling: "},
		{"scaled positions, version 5", `{"model_type": "llama", "rope_parameters": {"rope_type": "yarn"}}`, `rope_parameters.rope_type: "yarn" is not supported`},
		{"head size", `{"model_type": "llama", "head_dim": 64}`, "head_dim: 64 is not supported; only null,128"},
		{"inner size", `{"model_type": "mamba", "intermediate_size": 1000}`, "intermediate_size: 1000 is not supported; only null,1536"},
		{"layout", `{"model_type": "jamba", "attn_layer_offset": 8}`, "attn_layer_offset: 8 must be at least 0"},
		{"several", `{"model_type": "jamba", "hidden_act": "gelu", "vocab_size": 0}`, "vocab_size: 0 is not between"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			_, err := ReadHFConfig([]byte(test.json))
			if !errors.Is(err, ErrHub) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestReadHFConfigVersions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name, json string
		check      func(Config) bool
	}{
		{"version 4", `{"model_type": "llama", "rope_theta": 5e5, "rope_scaling": null, "torch_dtype": "bfloat16"}`, func(c Config) bool { return c.RopeTheta == 5e5 }},
		{"version 5", `{"model_type": "llama", "rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}, "dtype": "bfloat16"}`, func(c Config) bool { return c.RopeTheta == 5e5 }},
		{"default base", `{"model_type": "mixtral"}`, func(c Config) bool { return c.RopeTheta == 1e6 && c.NormalizeTopK }},
		{"derived rank", `{"model_type": "jamba", "mamba_dt_rank": "auto"}`, func(c Config) bool { return c.DtRank() == 256 }},
		{"all heads", `{"model_type": "jamba", "num_key_value_heads": null}`, func(c Config) bool { return c.KeyValueHeads() == 32 }},
		{"no padding", `{"model_type": "jamba", "pad_token_id": null}`, func(c Config) bool { return c.PadTokenID == nil }},
		{"padding", `{"model_type": "jamba"}`, func(c Config) bool { return *c.PadTokenID == 0 }},
		{"aux loss", `{"model_type": "jamba", "output_router_logits": true}`, func(c Config) bool { return c.RouterAuxLossCoef == 0.001 }},
		{"no aux loss", `{"model_type": "jamba"}`, func(c Config) bool { return c.RouterAuxLossCoef == 0 }},
		{"unknown keys", `{"model_type": "jamba", "use_mamba_kernels": true, "auto_map": {"a": "b"}}`, func(c Config) bool { return true }},
	} {
		c, err := ReadHFConfig([]byte(test.json))
		if err != nil || !test.check(c) {
			t.Errorf("%s: %+v, %v", test.name, c, err)
		}
	}
}

// TestWriteHFConfigRoundTrip reads back what is written, and compares it with
// the reference's file key by key.
func TestWriteHFConfigRoundTrip(t *testing.T) {
	t.Parallel()
	for _, name := range goldenCases(t) {
		want := goldenConfig(t, name)
		text, err := WriteHFConfig(want, "float32")
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		got, err := ReadHFConfig(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s:\n got %+v (%v)\nwant %+v", name, got, err, want)
		}
		original, err := os.ReadFile(filepath.Join(goldenDir, name, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		var written, reference map[string]any
		if err := errors.Join(json.Unmarshal(text, &written), json.Unmarshal(original, &reference)); err != nil {
			t.Fatal(err)
		}
		for key, value := range written {
			switch key {
			case "architectures", "dtype", "torch_dtype", "rope_theta": // the reference left them out
			case "router_aux_loss_coef": // 0 here, as it is not used
			default:
				if !reflect.DeepEqual(value, reference[key]) {
					t.Errorf("%s: %s is %v, in the reference's file %v", name, key, value, reference[key])
				}
			}
		}
	}
}

func TestWriteHFConfigPattern(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		pattern string
		ok      bool
	}{
		{"mMmMaMmM", true}, {"mMmA", true}, {"mmmm", true}, {"AAAA", true}, {"Mmmmmmmm", true},
		{"mmaa", false}, {"mMMm", false}, {"ammammma", false}, {"aammmmmm", false},
	} {
		c := Default()
		c.LayerPattern = test.pattern
		text, err := WriteHFConfig(c, "float32")
		if !test.ok {
			if !errors.Is(err, ErrHub) || !strings.Contains(err.Error(), "layer_pattern: ") {
				t.Errorf("%s: %v", test.pattern, err)
			}
			continue
		}
		back, readErr := ReadHFConfig(text)
		if err != nil || readErr != nil || !reflect.DeepEqual(back.LayerKinds(), c.LayerKinds()) {
			t.Errorf("%s: became %v (%v, %v)", test.pattern, back.LayerKinds(), err, readErr)
		}
	}
}

func TestWriteHFConfigRefuses(t *testing.T) {
	t.Parallel()
	c := Default()
	c.RopeTheta, c.NormalizeTopK, c.MambaInnerNorms = 1e4, true, false
	_, err := WriteHFConfig(c, "float32")
	if !errors.Is(err, ErrHub) {
		t.Fatalf("got %v", err)
	}
	for _, key := range []string{"rope_theta", "norm_topk_prob", "mamba_inner_norms"} {
		if !strings.Contains(err.Error(), key+": the reference Jamba") {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

// FuzzReadHFConfig checks that what is read is valid and survives a round trip.
func FuzzReadHFConfig(f *testing.F) {
	for _, name := range goldenCases(f) {
		text, err := os.ReadFile(filepath.Join(goldenDir, name, "config.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Add([]byte(`{"model_type": "jamba", "mamba_dt_rank": "auto", "num_key_value_heads": null}`))
	f.Add([]byte(`{"model_type": "llama", "rope_theta": 1e300, "rope_parameters": null, "pad_token_id": -1}`))
	f.Add([]byte(`{"model_type": "mamba", "hidden_size": 9223372036854775807, "intermediate_size": []}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ReadHFConfig(text)
		if err != nil {
			if !errors.Is(err, ErrHub) {
				t.Fatalf("%v does not match ErrHub", err)
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if n := c.Counts(); n.Active < 1 || n.Total < n.Active {
			t.Fatalf("%+v parameters", n)
		}
		written, err := WriteHFConfig(c, "float32")
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadHFConfig(written)
		if err != nil {
			t.Fatal(err)
		}
		again.NumKeyValueHeads, again.MambaDtRank = c.NumKeyValueHeads, c.MambaDtRank // may have been derived
		if !reflect.DeepEqual(again, c) {
			t.Fatalf("wrote %+v, read %+v", c, again)
		}
	})
}
