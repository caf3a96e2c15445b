package model

// ModelType names a family of models: how its layers are arranged, and what
// its weights and configuration are called on the hub.
type ModelType string

const (
	// Jamba mixes Mamba and attention layers, dense and expert feed-forwards.
	Jamba ModelType = "jamba"
	// Mixtral has attention and experts in every layer.
	Mixtral ModelType = "mixtral"
	// Llama has attention and a dense feed-forward in every layer.
	Llama ModelType = "llama"
	// Mamba has a Mamba mixer and no feed-forward in every layer.
	Mamba ModelType = "mamba"
)

// AuxScope says over which tokens the means of the router's auxiliary loss run.
type AuxScope string

const (
	// AuxSequence takes one mean a layer and sequence: the loss does not depend
	// on how a batch is cut into micro-batches or ranks.
	AuxSequence AuxScope = "sequence"
	// AuxBatch takes one mean over all tokens of all layers, as the reference
	// implementation does. It hides imbalance between layers.
	AuxBatch AuxScope = "batch"
)

// DtInit says how the projection that makes the Mamba time step is initialised.
type DtInit string

const (
	// DtMamba draws time steps log-uniformly from [0.001, 0.1], as mamba-ssm.
	DtMamba DtInit = "mamba"
	// DtReference treats it like any linear layer: normal weight, zero bias, so
	// that every time step starts near 0.69.
	DtReference DtInit = "reference"
)

// Config describes a model. Keys are the reference implementation's where it
// has one. A Config is a plain value: start from Default, change what differs,
// call Validate.
type Config struct {
	ModelType ModelType `yaml:"model_type"`

	VocabSize        int `yaml:"vocab_size"`
	HiddenSize       int `yaml:"hidden_size"`       // width of the residual stream
	IntermediateSize int `yaml:"intermediate_size"` // width inside an MLP or one expert
	NumHiddenLayers  int `yaml:"num_hidden_layers"`

	NumAttentionHeads int `yaml:"num_attention_heads"`
	NumKeyValueHeads  int `yaml:"num_key_value_heads"` // 0: as many as attention heads
	// RopeTheta is the base of the rotary position embedding; 0: no positions,
	// as in Jamba.
	RopeTheta float64 `yaml:"rope_theta"`

	// Layer i has attention iff i mod AttnLayerPeriod == AttnLayerOffset, and
	// Mamba otherwise; it has experts iff i mod ExpertLayerPeriod ==
	// ExpertLayerOffset and NumExperts > 1. Only Jamba has these.
	AttnLayerPeriod   int `yaml:"attn_layer_period"`
	AttnLayerOffset   int `yaml:"attn_layer_offset"`
	ExpertLayerPeriod int `yaml:"expert_layer_period"`
	ExpertLayerOffset int `yaml:"expert_layer_offset"`
	// LayerPattern, if not empty, replaces those four numbers: a letter a layer,
	// m Mamba and a attention, in upper case with experts. A pattern shorter than
	// the model repeats, so the original Jamba is "mMmMaMmM".
	LayerPattern string `yaml:"layer_pattern"`

	NumExperts       int `yaml:"num_experts"` // 1: dense feed-forwards
	NumExpertsPerTok int `yaml:"num_experts_per_tok"`
	// NormalizeTopK divides the weights of the chosen experts by their sum, as
	// Mixtral does and Jamba does not.
	NormalizeTopK     bool     `yaml:"norm_topk_prob"`
	RouterAuxLossCoef float64  `yaml:"router_aux_loss_coef"` // 0: no auxiliary loss
	RouterAuxScope    AuxScope `yaml:"router_aux_scope"`
	// ExpertCapacityFactor limits what an expert takes of a sequence in training to this
	// many times its share at balance: see op.Capacity. 0: no limit. Evaluation,
	// generation and exports have none.
	ExpertCapacityFactor float64 `yaml:"expert_capacity_factor"`

	MambaDState   int  `yaml:"mamba_d_state"`
	MambaDConv    int  `yaml:"mamba_d_conv"`
	MambaExpand   int  `yaml:"mamba_expand"`
	MambaDtRank   int  `yaml:"mamba_dt_rank"` // 0: hidden_size / 16, rounded up
	MambaConvBias bool `yaml:"mamba_conv_bias"`
	MambaProjBias bool `yaml:"mamba_proj_bias"` // biases of in_proj and out_proj
	// MambaInnerNorms puts an RMSNorm on each of dt, B and C, as Jamba does.
	MambaInnerNorms bool   `yaml:"mamba_inner_norms"`
	DtInit          DtInit `yaml:"dt_init"`

	RMSNormEps        float64 `yaml:"rms_norm_eps"`
	InitializerRange  float64 `yaml:"initializer_range"` // standard deviation of weights
	TieWordEmbeddings bool    `yaml:"tie_word_embeddings"`

	// PadTokenID is a token whose embedding starts at zero and gets no gradient
	// from the look-up; null where every token means something, as in byte text.
	PadTokenID *int `yaml:"pad_token_id"`
	BosTokenID *int `yaml:"bos_token_id"`
	EosTokenID *int `yaml:"eos_token_id"`
}

// Default returns a small Jamba over bytes, 1 attention layer in 8 and experts
// in every second one. What is not a size is as in Jamba, but for the choices
// that suit pre-training: DtMamba, AuxSequence, no padding token.
func Default() Config {
	return Config{
		ModelType:         Jamba,
		VocabSize:         256,
		HiddenSize:        128,
		IntermediateSize:  256,
		NumHiddenLayers:   8,
		NumAttentionHeads: 4,
		NumKeyValueHeads:  2,
		AttnLayerPeriod:   8,
		AttnLayerOffset:   4,
		ExpertLayerPeriod: 2,
		ExpertLayerOffset: 1,
		NumExperts:        4,
		NumExpertsPerTok:  2,
		RouterAuxLossCoef: 0.001,
		RouterAuxScope:    AuxSequence,
		MambaDState:       16,
		MambaDConv:        4,
		MambaExpand:       2,
		MambaConvBias:     true,
		MambaInnerNorms:   true,
		DtInit:            DtMamba,
		RMSNormEps:        1e-6,
		InitializerRange:  0.02,
	}
}

// HeadDim is the width of one attention head.
func (c Config) HeadDim() int { return c.HiddenSize / c.NumAttentionHeads }

// KeyValueHeads is NumKeyValueHeads with its default filled in.
func (c Config) KeyValueHeads() int {
	if c.NumKeyValueHeads == 0 {
		return c.NumAttentionHeads
	}
	return c.NumKeyValueHeads
}

// InnerSize is D, the width inside a Mamba mixer.
func (c Config) InnerSize() int { return c.MambaExpand * c.HiddenSize }

// DtRank is MambaDtRank with its default filled in.
func (c Config) DtRank() int {
	if c.MambaDtRank == 0 {
		return (c.HiddenSize + 15) / 16
	}
	return c.MambaDtRank
}

// EmbeddingPad is the token whose row of the embedding the look-up leaves
// alone, or -1. The reference Mamba has a padding token but no such row.
func (c Config) EmbeddingPad() int {
	if c.PadTokenID == nil || c.ModelType == Mamba {
		return -1
	}
	return *c.PadTokenID
}
