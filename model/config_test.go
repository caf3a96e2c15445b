package model

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"

	"jambalaya/internal/config"
)

func TestDefaultIsValid(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

// configurations are changes of the default, and what Validate has to say of them.
var configurations = []struct {
	name   string
	change func(*Config)
	want   []string // all faults, in order; none: valid
}{
	{"unknown family", func(c *Config) { c.ModelType = "gpt2" }, []string{`model_type: "gpt2" is not one of jamba, mixtral, llama, mamba`}},
	{"empty vocabulary", func(c *Config) { c.VocabSize = 0 }, []string{"vocab_size: 0 is not between 1 and 16777216"}},
	{"huge layers", func(c *Config) { c.NumHiddenLayers = 1 << 30 }, []string{"num_hidden_layers: 1073741824 is not between 1 and 1024"}},
	{"negative width", func(c *Config) { c.IntermediateSize = -1 }, []string{"intermediate_size: -1 is not between 1 and 1048576"}},
	{"heads", func(c *Config) { c.NumAttentionHeads = 3; c.NumKeyValueHeads = 0 }, []string{"num_attention_heads: 3 does not divide hidden_size, 128"}},
	{"no heads", func(c *Config) { c.NumAttentionHeads = 0 }, []string{"num_attention_heads: 0 is not between 1 and 4096"}},
	{"key-value heads", func(c *Config) { c.NumKeyValueHeads = 3 }, []string{"num_key_value_heads: 3 does not divide num_attention_heads, 4"}},
	{"more key-value heads", func(c *Config) { c.NumKeyValueHeads = 8 }, []string{"num_key_value_heads: 8 is not between 0 and 4"}},
	{"odd head with positions", func(c *Config) { c.HiddenSize, c.RopeTheta = 20, 1e4 }, []string{"rope_theta: rotary positions need an even head size, not 5"}},
	{"attention offset", func(c *Config) { c.AttnLayerOffset = 8 }, []string{"attn_layer_offset: 8 must be at least 0 and below attn_layer_period, 8"}},
	{"expert offset", func(c *Config) { c.ExpertLayerOffset = -1 }, []string{"expert_layer_offset: -1 must be at least 0 and below expert_layer_period, 2"}},
	{"no period", func(c *Config) { c.AttnLayerPeriod = 0 }, []string{"attn_layer_period: 0 is not between 1 and 2147483647"}},
	{"top-k", func(c *Config) { c.NumExpertsPerTok = 5 }, []string{"num_experts_per_tok: 5 is not between 1 and 4"}},
	{"no experts", func(c *Config) { c.NumExperts = 0 }, []string{"num_experts: 0 is not between 1 and 4096"}},
	{"dense needs no top-k", func(c *Config) { c.NumExperts, c.NumExpertsPerTok = 1, 0 }, nil},
	{"scope", func(c *Config) { c.RouterAuxScope = "layer" }, []string{`router_aux_scope: "layer" is not one of sequence, batch`}},
	{"capacity", func(c *Config) { c.ExpertCapacityFactor = -1 }, []string{"expert_capacity_factor: -1 is not a finite number of at least 0"}},
	{"aux coefficient", func(c *Config) { c.RouterAuxLossCoef = math.Inf(1) }, []string{"router_aux_loss_coef: +Inf is not a finite number of at least 0"}},
	{"states", func(c *Config) { c.MambaDState = 0 }, []string{"mamba_d_state: 0 is not between 1 and 4096"}},
	{"taps", func(c *Config) { c.MambaDConv = 1 }, []string{"mamba_d_conv: 1 is not between 2 and 4096"}},
	{"dt", func(c *Config) { c.DtInit = "zero" }, []string{`dt_init: "zero" is not one of mamba, reference`}},
	{"epsilon", func(c *Config) { c.RMSNormEps = 0 }, []string{"rms_norm_eps: must be above 0"}},
	{"range", func(c *Config) { c.InitializerRange = math.NaN() }, []string{"initializer_range: NaN is not a finite number of at least 0"}},
	{"pad", func(c *Config) { c.PadTokenID = token(256) }, []string{"pad_token_id: 256 is not in the vocabulary of 256 tokens"}},
	{"eos", func(c *Config) { c.EosTokenID = token(-1) }, []string{"eos_token_id: -1 is not in the vocabulary of 256 tokens"}},
	{"all at once", func(c *Config) { c.AttnLayerOffset, c.VocabSize, c.MambaDState, c.NumExpertsPerTok = 9, -1, -2, 9 }, []string{
		"vocab_size: -1 is not between 1 and 16777216",
		"attn_layer_offset: 9 must be at least 0 and below attn_layer_period, 8",
		"mamba_d_state: -2 is not between 1 and 4096",
		"num_experts_per_tok: 9 is not between 1 and 4",
	}},

	{"pattern", func(c *Config) { c.LayerPattern = "mMaA" }, nil},
	{"pattern instead of periods", func(c *Config) { c.LayerPattern, c.AttnLayerPeriod = "mM", 0 }, nil},
	{"pattern letter", func(c *Config) { c.LayerPattern = "mMxA" }, []string{"layer_pattern: 'x' at 2 is not one of m, M (Mamba), a, A (attention); upper case has experts"}},
	{"pattern length", func(c *Config) { c.LayerPattern = "mMm" }, []string{"layer_pattern: 3 letters do not repeat to 8 layers"}},
	{"long pattern", func(c *Config) { c.LayerPattern = strings.Repeat("m", 16) }, []string{"layer_pattern: 16 letters do not repeat to 8 layers"}},
	{"pattern without experts", func(c *Config) { c.LayerPattern, c.NumExperts = "mA", 1 }, []string{"num_experts: 1, but layer_pattern has layers with experts (M, A), which need at least 2"}},

	{"mamba", func(c *Config) { c.ModelType, c.MambaInnerNorms, c.NumAttentionHeads = Mamba, false, 0 }, nil},
	{"mamba with norms", func(c *Config) { c.ModelType = Mamba }, []string{"mamba_inner_norms: model_type mamba has no norms of dt, B and C; set it to false"}},
	{"llama", func(c *Config) { c.ModelType, c.RopeTheta, c.NumExperts = Llama, 1e4, 0 }, nil},
	{"llama without positions", func(c *Config) { c.ModelType = Llama }, []string{"rope_theta: model_type llama has rotary positions; set it above 0"}},
	{"llama with a pattern", func(c *Config) { c.ModelType, c.RopeTheta, c.LayerPattern = Llama, 1e4, "m" }, []string{"layer_pattern: all layers of model_type llama are the same; leave it empty or use model_type jamba"}},
	{"mixtral", func(c *Config) { c.ModelType, c.RopeTheta, c.NormalizeTopK = Mixtral, 1e6, true }, nil},
	{"mixtral as jamba", func(c *Config) { c.ModelType, c.RopeTheta = Mixtral, 1e6 }, []string{"norm_topk_prob: model_type mixtral normalises the weights of the chosen experts; set it to true"}},
}

func TestValidate(t *testing.T) {
	t.Parallel()
	for _, test := range configurations {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := Default()
			test.change(&c)
			err := c.Validate()
			want := strings.Join(test.want, "\n")
			if err == nil && want == "" {
				return
			}
			if err == nil || err.Error() != want {
				t.Errorf("got\n%v\nwant\n%s", err, want)
			}
			if err != nil && !errors.Is(err, config.ErrInvalid) {
				t.Error("does not match config.ErrInvalid")
			}
		})
	}
}

func TestLayerKinds(t *testing.T) {
	t.Parallel()
	letters := func(c Config) string {
		var pattern []rune
		for _, kind := range c.LayerKinds() {
			letter := '-'
			for l, k := range patternLetters {
				if k == kind {
					letter = l
				}
			}
			pattern = append(pattern, letter)
		}
		return string(pattern)
	}
	for _, test := range []struct {
		want   string
		change func(*Config)
	}{
		{"mMmMaMmM", func(*Config) {}},
		{"mmmmammm", func(c *Config) { c.NumExperts = 1 }},
		{"mAmAmAmA", func(c *Config) { c.AttnLayerPeriod, c.AttnLayerOffset = 2, 1 }},
		{"mmAammAa", func(c *Config) { c.LayerPattern = "mmAa" }},
		{"AAAAAAAA", func(c *Config) { c.ModelType = Mixtral }},
		{"aaaaaaaa", func(c *Config) { c.ModelType = Llama }},
		{"--------", func(c *Config) { c.ModelType = Mamba }},
	} {
		c := Default()
		test.change(&c)
		if got := letters(c); got != test.want {
			t.Errorf("%s, want %s", got, test.want)
		}
	}
	attention := []int{}
	for i, kind := range jambaV01(t).LayerKinds() {
		if kind.Mixer == AttentionMixer {
			attention = append(attention, i)
		}
	}
	if !slices.Equal(attention, []int{4, 12, 20, 28}) {
		t.Errorf("attention in layers %v of Jamba v0.1", attention)
	}
}

func TestDerivedSizes(t *testing.T) {
	t.Parallel()
	c := Default()
	c.HiddenSize, c.NumKeyValueHeads = 100, 0
	if c.DtRank() != 7 || c.InnerSize() != 200 || c.HeadDim() != 25 || c.KeyValueHeads() != 4 {
		t.Errorf("rank %d, inner %d, head %d, key-value heads %d", c.DtRank(), c.InnerSize(), c.HeadDim(), c.KeyValueHeads())
	}
	if c.MambaDtRank = 3; c.DtRank() != 3 {
		t.Errorf("rank %d", c.DtRank())
	}
	if c.EmbeddingPad() != -1 {
		t.Error("no padding token by default")
	}
	if c.PadTokenID = token(5); c.EmbeddingPad() != 5 {
		t.Error("padding token")
	}
	if c.ModelType = Mamba; c.EmbeddingPad() != -1 {
		t.Error("Mamba's look-up treats all tokens alike")
	}
}
