package model

import (
	"math"
	"strings"

	"jambalaya/internal/config"
)

// Upper bounds of sizes. They are far beyond any model and keep every count of
// elements, products of these included, within an int64.
const (
	maxVocab  = 1 << 24
	maxWidth  = 1 << 18
	maxInner  = 1 << 20
	maxLayers = 1 << 10
	maxCount  = 1 << 12
)

// validator collects faults.
type validator struct{ config.Faults }

// within reports min <= value <= max, and records a fault if not.
func (v *validator) within(key string, value, min, max int) bool {
	if value < min || value > max {
		v.Add(key, "%d is not between %d and %d", value, min, max)
		return false
	}
	return true
}

// real checks a finite number: above zero, or zero too where that is allowed.
func (v *validator) real(key string, value float64, zero bool) {
	switch {
	case math.IsNaN(value) || math.IsInf(value, 0) || value < 0:
		v.Add(key, "%v is not a finite number of at least 0", value)
	case value == 0 && !zero:
		v.Add(key, "must be above 0")
	}
}

// Validate returns every fault of the configuration, joined, each a
// *config.Fault; nil if there is none. Keys of parts that the model does not
// have (of Mamba in a Llama, say) are not looked at.
func (c Config) Validate() error {
	v := &validator{}
	v.within("vocab_size", c.VocabSize, 1, maxVocab)
	v.within("hidden_size", c.HiddenSize, 1, maxWidth)
	v.real("rms_norm_eps", c.RMSNormEps, false)
	v.real("initializer_range", c.InitializerRange, false)
	c.validateToken(v, "pad_token_id", c.PadTokenID)
	c.validateToken(v, "bos_token_id", c.BosTokenID)
	c.validateToken(v, "eos_token_id", c.EosTokenID)

	layout := c.validateLayout()
	v.Section("", layout)
	var mamba, attention, ffn, moe bool
	for _, kind := range c.kindsToValidate(layout == nil) {
		mamba = mamba || kind.Mixer == MambaMixer
		attention = attention || kind.Mixer == AttentionMixer
		ffn = ffn || kind.FFN != NoFeedForward
		moe = moe || kind.FFN == MoE
	}
	if mamba {
		c.validateMamba(v)
	}
	if attention {
		c.validateAttention(v)
	}
	if ffn {
		v.within("intermediate_size", c.IntermediateSize, 1, maxInner)
	}
	if moe {
		c.validateExperts(v)
	}
	return v.Err()
}

func (c Config) validateToken(v *validator, key string, id *int) {
	if id != nil && (*id < 0 || *id >= c.VocabSize) {
		v.Add(key, "%d is not in the vocabulary of %d tokens", *id, c.VocabSize)
	}
}

// validateLayout returns the faults that keep LayerKinds from being called.
func (c Config) validateLayout() error {
	v := &validator{}
	v.within("num_hidden_layers", c.NumHiddenLayers, 1, maxLayers)
	_, uniform := uniformLayers[c.ModelType]
	switch {
	case uniform && c.LayerPattern != "":
		v.Add("layer_pattern", "all layers of model_type %s are the same; leave it empty or use model_type jamba", c.ModelType)
	case uniform:
	case c.ModelType != Jamba:
		v.Add("model_type", "%q is not one of jamba, mixtral, llama, mamba", c.ModelType)
	case c.LayerPattern != "":
		c.validatePattern(v)
	default:
		validatePeriod(v, "attn_layer", c.AttnLayerPeriod, c.AttnLayerOffset)
		validatePeriod(v, "expert_layer", c.ExpertLayerPeriod, c.ExpertLayerOffset)
		v.within("num_experts", c.NumExperts, 1, maxCount)
	}
	return v.Err()
}

// kindsToValidate are the kinds of layer that the model has, or where its layout
// is faulty those that it may have.
func (c Config) kindsToValidate(layout bool) []LayerKind {
	if layout {
		return c.LayerKinds()
	}
	if kind, ok := uniformLayers[c.ModelType]; ok {
		return []LayerKind{kind}
	}
	kinds := []LayerKind{{MambaMixer, MLP}, {AttentionMixer, MLP}}
	if c.NumExperts > 1 {
		kinds = append(kinds, LayerKind{MambaMixer, MoE})
	}
	return kinds
}

func (c Config) validatePattern(v *validator) {
	for i, letter := range c.LayerPattern {
		if _, ok := patternLetters[letter]; !ok {
			v.Add("layer_pattern", "%q at %d is not one of m, M (Mamba), a, A (attention); upper case has experts", letter, i)
			return
		}
	}
	if n := len(c.LayerPattern); n > c.NumHiddenLayers || c.NumHiddenLayers%n != 0 {
		v.Add("layer_pattern", "%d letters do not repeat to %d layers", n, c.NumHiddenLayers)
	}
	if c.NumExperts < 2 && strings.ContainsAny(c.LayerPattern, "MA") {
		v.Add("num_experts", "%d, but layer_pattern has layers with experts (M, A), which need at least 2", c.NumExperts)
	}
}

func validatePeriod(v *validator, key string, period, offset int) {
	if v.within(key+"_period", period, 1, math.MaxInt32) && (offset < 0 || offset >= period) {
		v.Add(key+"_offset", "%d must be at least 0 and below %s_period, %d", offset, key, period)
	}
}

func (c Config) validateMamba(v *validator) {
	v.within("mamba_d_state", c.MambaDState, 1, maxCount)
	v.within("mamba_d_conv", c.MambaDConv, 2, maxCount)
	v.within("mamba_expand", c.MambaExpand, 1, 64)
	v.within("mamba_dt_rank", c.MambaDtRank, 0, maxWidth)
	if c.DtInit != DtMamba && c.DtInit != DtReference {
		v.Add("dt_init", "%q is not one of %s, %s", c.DtInit, DtMamba, DtReference)
	}
	if c.ModelType == Mamba && c.MambaInnerNorms {
		v.Add("mamba_inner_norms", "model_type mamba has no norms of dt, B and C; set it to false")
	}
}

func (c Config) validateAttention(v *validator) {
	v.real("rope_theta", c.RopeTheta, true)
	if !v.within("num_attention_heads", c.NumAttentionHeads, 1, maxCount) {
		return
	}
	if c.HiddenSize%c.NumAttentionHeads != 0 {
		v.Add("num_attention_heads", "%d does not divide hidden_size, %d", c.NumAttentionHeads, c.HiddenSize)
	} else if c.RopeTheta > 0 && c.HeadDim()%2 != 0 {
		v.Add("rope_theta", "rotary positions need an even head size, not %d", c.HeadDim())
	}
	if v.within("num_key_value_heads", c.NumKeyValueHeads, 0, c.NumAttentionHeads) && c.NumAttentionHeads%c.KeyValueHeads() != 0 {
		v.Add("num_key_value_heads", "%d does not divide num_attention_heads, %d", c.NumKeyValueHeads, c.NumAttentionHeads)
	}
	if c.RopeTheta == 0 && (c.ModelType == Llama || c.ModelType == Mixtral) {
		v.Add("rope_theta", "model_type %s has rotary positions; set it above 0", c.ModelType)
	}
}

func (c Config) validateExperts(v *validator) {
	if v.within("num_experts", c.NumExperts, 2, maxCount) {
		v.within("num_experts_per_tok", c.NumExpertsPerTok, 1, c.NumExperts)
	}
	v.real("router_aux_loss_coef", c.RouterAuxLossCoef, true)
	v.real("expert_capacity_factor", c.ExpertCapacityFactor, true)
	if c.RouterAuxScope != AuxSequence && c.RouterAuxScope != AuxBatch {
		v.Add("router_aux_scope", "%q is not one of %s, %s", c.RouterAuxScope, AuxSequence, AuxBatch)
	}
	if c.ModelType == Mixtral && !c.NormalizeTopK {
		v.Add("norm_topk_prob", "model_type mixtral normalises the weights of the chosen experts; set it to true")
	}
}
