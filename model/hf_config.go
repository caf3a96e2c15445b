package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"jambalaya/internal/config"
)

// hfDefaults are the families' values of keys that a config.json leaves out.
func hfDefaults() map[ModelType]Config {
	return map[ModelType]Config{
		Jamba: {
			VocabSize: 65536, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 32,
			NumAttentionHeads: 32, NumKeyValueHeads: 8,
			AttnLayerPeriod: 8, AttnLayerOffset: 4, ExpertLayerPeriod: 2, ExpertLayerOffset: 1,
			NumExperts: 16, NumExpertsPerTok: 2, RouterAuxLossCoef: 0.001,
			MambaDState: 16, MambaDConv: 4, MambaExpand: 2, MambaConvBias: true, MambaInnerNorms: true,
			DtInit: DtReference, RMSNormEps: 1e-6, InitializerRange: 0.02,
			PadTokenID: token(0), BosTokenID: token(1), EosTokenID: token(2),
		},
		Mixtral: {
			VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 14336, NumHiddenLayers: 32,
			NumAttentionHeads: 32, NumKeyValueHeads: 8, RopeTheta: 1e6,
			NumExperts: 8, NumExpertsPerTok: 2, NormalizeTopK: true, RouterAuxLossCoef: 0.001,
			RMSNormEps: 1e-5, InitializerRange: 0.02,
			BosTokenID: token(1), EosTokenID: token(2),
		},
		Llama: {
			VocabSize: 32000, HiddenSize: 4096, IntermediateSize: 11008, NumHiddenLayers: 32,
			NumAttentionHeads: 32, RopeTheta: 1e4,
			RMSNormEps: 1e-6, InitializerRange: 0.02,
			BosTokenID: token(1), EosTokenID: token(2),
		},
		Mamba: {
			VocabSize: 50280, HiddenSize: 768, NumHiddenLayers: 32,
			MambaDState: 16, MambaDConv: 4, MambaExpand: 2, MambaConvBias: true,
			DtInit: DtMamba, RMSNormEps: 1e-5, InitializerRange: 0.1, TieWordEmbeddings: true,
			PadTokenID: token(0), BosTokenID: token(0), EosTokenID: token(0),
		},
	}
}

func token(id int) *int { return &id }

// hfOnly are the values that we can express of keys that have no counterpart
// here; what other keys say does not change the model.
var hfOnly = map[string][]any{
	"hidden_act":            {"silu"},
	"attention_dropout":     {nil, 0.0},
	"attention_bias":        {nil, false},
	"mlp_bias":              {nil, false},
	"sliding_window":        {nil},
	"rope_scaling":          {nil},
	"partial_rotary_factor": {nil, 1.0},
	"router_jitter_noise":   {nil, 0.0},
	"quantization_config":   {nil},
}

// hfKeys binds the keys of a family's config.json to the fields of c.
func (c *Config) hfKeys() map[string]any {
	keys := map[string]any{
		"vocab_size":          &c.VocabSize,
		"hidden_size":         &c.HiddenSize,
		"num_hidden_layers":   &c.NumHiddenLayers,
		"initializer_range":   &c.InitializerRange,
		"tie_word_embeddings": &c.TieWordEmbeddings,
		"pad_token_id":        &c.PadTokenID,
		"bos_token_id":        &c.BosTokenID,
		"eos_token_id":        &c.EosTokenID,
	}
	if c.ModelType == Mamba {
		maps.Copy(keys, map[string]any{
			"state_size":         &c.MambaDState,
			"conv_kernel":        &c.MambaDConv,
			"expand":             &c.MambaExpand,
			"time_step_rank":     (*autoInt)(&c.MambaDtRank),
			"use_conv_bias":      &c.MambaConvBias,
			"use_bias":           &c.MambaProjBias,
			"layer_norm_epsilon": &c.RMSNormEps,
		})
		return keys
	}
	maps.Copy(keys, map[string]any{
		"intermediate_size":   &c.IntermediateSize,
		"num_attention_heads": &c.NumAttentionHeads,
		"num_key_value_heads": (*autoInt)(&c.NumKeyValueHeads),
		"rms_norm_eps":        &c.RMSNormEps,
	})
	switch c.ModelType {
	case Mixtral:
		maps.Copy(keys, map[string]any{
			"num_local_experts":    &c.NumExperts,
			"num_experts_per_tok":  &c.NumExpertsPerTok,
			"router_aux_loss_coef": &c.RouterAuxLossCoef,
		})
	case Jamba:
		maps.Copy(keys, map[string]any{
			"attn_layer_period":    &c.AttnLayerPeriod,
			"attn_layer_offset":    &c.AttnLayerOffset,
			"expert_layer_period":  &c.ExpertLayerPeriod,
			"expert_layer_offset":  &c.ExpertLayerOffset,
			"num_experts":          &c.NumExperts,
			"num_experts_per_tok":  &c.NumExpertsPerTok,
			"router_aux_loss_coef": &c.RouterAuxLossCoef,
			"mamba_d_state":        &c.MambaDState,
			"mamba_d_conv":         &c.MambaDConv,
			"mamba_expand":         &c.MambaExpand,
			"mamba_dt_rank":        (*autoInt)(&c.MambaDtRank),
			"mamba_conv_bias":      &c.MambaConvBias,
			"mamba_proj_bias":      &c.MambaProjBias,
		})
	}
	return keys
}

// autoInt is an integer that config.json may leave to be derived, which is 0
// here: null or "auto".
type autoInt int

func (a *autoInt) UnmarshalJSON(data []byte) error {
	if s := string(data); s == `null` || s == `"auto"` {
		*a = 0
		return nil
	}
	return json.Unmarshal(data, (*int)(a))
}

// hfRope is the rotary embedding as version 5 of the reference writes it.
type hfRope struct {
	Theta float64 `json:"rope_theta"`
	Type  string  `json:"rope_type"`
}

// ReadHFConfig reads the config.json of a Jamba, Mixtral, Llama or Mamba, as
// version 4 or 5 of the reference implementation writes it. What the model
// computes is taken over exactly, or refused with ErrHub (every fault is listed);
// keys that do not change it are ignored. The auxiliary loss counts only with
// output_router_logits, so RouterAuxLossCoef is 0 without.
func ReadHFConfig(data []byte) (Config, error) {
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(data, &raw); err != nil {
		return Config{}, fmt.Errorf("%w: config.json: %w", ErrHub, err)
	}
	var family ModelType
	if err := json.Unmarshal(raw["model_type"], &family); err != nil {
		return Config{}, fmt.Errorf("%w: config.json: model_type is missing or not a string", ErrHub)
	}
	c, ok := hfDefaults()[family]
	if !ok {
		return Config{}, fmt.Errorf("%w: config.json: model_type %q is not one of jamba, mixtral, llama, mamba", ErrHub, family)
	}
	c.ModelType, c.RouterAuxScope = family, AuxBatch

	r := &hfReader{raw: raw}
	keys := c.hfKeys()
	for _, key := range sortedKeys(keys) {
		r.read(key, keys[key])
	}
	if family == Llama || family == Mixtral {
		r.readRope(&c.RopeTheta)
	}
	auxLoss := false
	r.read("output_router_logits", &auxLoss)
	if !auxLoss {
		c.RouterAuxLossCoef = 0
	}
	for _, key := range sortedKeys(hfOnly) {
		r.only(key, hfOnly[key]...)
	}
	r.Section("", c.Validate())
	if family == Mamba {
		r.only("intermediate_size", nil, float64(c.InnerSize()))
	} else if c.NumAttentionHeads > 0 {
		r.only("head_dim", nil, float64(c.HeadDim()))
	}
	if err := r.Err(); err != nil {
		return Config{}, fmt.Errorf("%w: config.json: %w", ErrHub, err)
	}
	return c, nil
}

// hfReader reads keys of a config.json and collects faults.
type hfReader struct {
	config.Faults
	raw map[string]json.RawMessage
}

// read decodes a key, if it is there, into the value that target points to.
func (r *hfReader) read(key string, target any) {
	data, ok := r.raw[key]
	if !ok {
		return
	}
	if err := json.Unmarshal(data, target); err != nil {
		r.Add(key, "%s does not fit: %v", shorten(data), err)
	}
}

// only refuses a key whose value is none of those given.
func (r *hfReader) only(key string, values ...any) {
	data, ok := r.raw[key]
	if !ok {
		return
	}
	var value any
	// The value was parsed with the file; only its kind is open.
	_ = json.Unmarshal(data, &value)
	switch value.(type) {
	case map[string]any, []any: // not comparable
	default:
		if slices.Contains(values, value) {
			return
		}
	}
	want, _ := json.Marshal(values)
	r.Add(key, "%s is not supported; only %s", shorten(data), bytes.Trim(want, "[]"))
}

// readRope reads the base of the rotary embedding: rope_parameters of version
// 5, else rope_theta of version 4.
func (r *hfReader) readRope(theta *float64) {
	r.read("rope_theta", theta)
	rope := hfRope{Theta: *theta, Type: "default"}
	r.read("rope_parameters", &rope)
	if rope.Type != "default" {
		r.Add("rope_parameters.rope_type", "%q is not supported; only \"default\"", rope.Type)
	}
	*theta = rope.Theta
}

// shorten keeps a value from the file printable in one line.
func shorten(data []byte) string {
	const most = 60
	if data = bytes.Join(bytes.Fields(data), []byte(" ")); len(data) > most {
		return string(data[:most]) + "..."
	}
	return string(data)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// WriteHFConfig writes the config.json of a valid configuration whose weights are
// stored as dtype ("float32", say), for versions 4 and 5 of the reference
// implementation. A model that the reference cannot
// express is refused with ErrHub.
func WriteHFConfig(c Config, dtype string) ([]byte, error) {
	c.NumKeyValueHeads, c.MambaDtRank = c.KeyValueHeads(), c.DtRank()
	if c.ModelType == Jamba {
		if err := c.makeJambaLayout(); err != nil {
			return nil, fmt.Errorf("%w: config.json: %w", ErrHub, err)
		}
	}
	keys := c.hfKeys()
	maps.Copy(keys, map[string]any{
		"model_type":    c.ModelType,
		"architectures": []string{hfArchitectures[c.ModelType]},
		"hidden_act":    "silu",
		"dtype":         dtype,
		"torch_dtype":   dtype,
	})
	if _, routed := keys["router_aux_loss_coef"]; routed {
		keys["output_router_logits"] = c.RouterAuxLossCoef > 0
	}
	if c.RopeTheta > 0 {
		keys["rope_theta"] = c.RopeTheta
		keys["rope_parameters"] = hfRope{Theta: c.RopeTheta, Type: "default"}
	}
	return json.MarshalIndent(keys, "", " ")
}

var hfArchitectures = map[ModelType]string{
	Jamba:   "JambaForCausalLM",
	Mixtral: "MixtralForCausalLM",
	Llama:   "LlamaForCausalLM",
	Mamba:   "MambaForCausalLM",
}

// makeJambaLayout replaces a layer pattern by periods and offsets, and refuses
// what the reference Jamba does not have.
func (c *Config) makeJambaLayout() error {
	var faults config.Faults
	if c.RopeTheta > 0 {
		faults.Add("rope_theta", "the reference Jamba has no positions")
	}
	if c.NormalizeTopK {
		faults.Add("norm_topk_prob", "the reference Jamba does not normalise the chosen experts")
	}
	if !c.MambaInnerNorms {
		faults.Add("mamba_inner_norms", "the reference Jamba has them")
	}
	if c.LayerPattern != "" {
		kinds := c.LayerKinds()
		var ok [2]bool
		c.AttnLayerPeriod, c.AttnLayerOffset, ok[0] = period(kinds, func(k LayerKind) bool { return k.Mixer == AttentionMixer })
		c.ExpertLayerPeriod, c.ExpertLayerOffset, ok[1] = period(kinds, func(k LayerKind) bool { return k.FFN == MoE })
		if !ok[0] || !ok[1] {
			faults.Add("layer_pattern", "%q is not a period and an offset", c.LayerPattern)
		}
	}
	return faults.Err()
}

// period finds the numbers for which layer i has a property iff i mod period ==
// offset, if there are any.
func period(kinds []LayerKind, has func(LayerKind) bool) (period, offset int, ok bool) {
	offset = slices.IndexFunc(kinds, has)
	if offset < 0 {
		return len(kinds) + 1, len(kinds), true
	}
	period = len(kinds)
	if gap := slices.IndexFunc(kinds[offset+1:], has); gap >= 0 {
		period = gap + 1
	}
	for i, kind := range kinds {
		if has(kind) != (i%period == offset) {
			return 0, 0, false
		}
	}
	return period, offset, true
}
