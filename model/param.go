package model

import "fmt"

// Kind is what a parameter does: it decides the initial value and whether
// weight decay applies.
type Kind uint8

const (
	Embedding Kind = iota
	Norm           // weight of an RMSNorm
	Linear         // weight of a matrix product, [out, in]
	Router         // weight of the router, [experts, in]
	Experts        // weights of all experts of a layer, [experts, out, in]
	Conv           // weight of the depthwise convolution, [channels, taps]
	Bias
	DtWeight // weight of dt_proj, [inner, rank]
	DtBias   // bias of dt_proj
	ALog     // logarithm of the decay rates, [inner, states]
	Skip     // D, the path past the scan
)

// decays says which kinds weight decay should apply to: those that multiply
// what comes in, and not scales, offsets and the dynamics of the scan.
func (k Kind) decays() bool {
	switch k {
	case Norm, Bias, DtBias, ALog, Skip:
		return false
	}
	return true
}

// narrows says which kinds have a copy in bf16 for products where a model computes in
// that; the others are few and are read as they are.
func (k Kind) narrows() bool {
	switch k {
	case Embedding, Linear, Router, Experts, DtWeight:
		return true
	}
	return false
}

// Param is one parameter of the graph. Its layout is chosen for few and large
// matrix products, so it may hold several tensors of the hub: see HubTensors.
type Param struct {
	Name    string
	Shape   []int // row-major
	Layer   int   // -1 outside of the layers
	Kind    Kind
	NoDecay bool // norms, biases, A_log, D: weight decay would do harm
	Expert  bool // the first dimension is the expert, and may be sharded
}

// Size is the number of elements.
func (p Param) Size() int {
	size := 1
	for _, n := range p.Shape {
		size *= n
	}
	return size
}

// Names of parameters outside of the layers.
const (
	EmbedTokens    = "embed_tokens.weight"
	FinalLayernorm = "final_layernorm.weight"
	LMHead         = "lm_head.weight"
)

// Names of a layer's parameters, after the prefix that LayerPrefix gives.
const (
	InputLayernorm = "input_layernorm.weight"
	PreFFLayernorm = "pre_ff_layernorm.weight"

	MambaInProjX     = "mamba.in_proj_x.weight"
	MambaInProjXBias = "mamba.in_proj_x.bias"
	MambaInProjZ     = "mamba.in_proj_z.weight"
	MambaInProjZBias = "mamba.in_proj_z.bias"
	MambaConv1d      = "mamba.conv1d.weight"
	MambaConv1dBias  = "mamba.conv1d.bias"
	MambaXProj       = "mamba.x_proj.weight"
	MambaDtLayernorm = "mamba.dt_layernorm.weight"
	MambaBLayernorm  = "mamba.b_layernorm.weight"
	MambaCLayernorm  = "mamba.c_layernorm.weight"
	MambaDtProj      = "mamba.dt_proj.weight"
	MambaDtProjBias  = "mamba.dt_proj.bias"
	MambaALog        = "mamba.A_log"
	MambaD           = "mamba.D"
	MambaOutProj     = "mamba.out_proj.weight"
	MambaOutProjBias = "mamba.out_proj.bias"

	SelfAttnQKVProj = "self_attn.qkv_proj.weight" // query heads, key heads, value heads
	SelfAttnOProj   = "self_attn.o_proj.weight"

	MLPGateUpProj     = "feed_forward.gate_up_proj.weight" // gate, then up
	MLPDownProj       = "feed_forward.down_proj.weight"
	MoERouter         = "feed_forward.router.weight"
	ExpertsGateUpProj = "feed_forward.experts.gate_up_proj" // of each expert: gate, then up
	ExpertsDownProj   = "feed_forward.experts.down_proj"
)

// LayerPrefix is what the names of layer i's parameters start with.
func LayerPrefix(i int) string { return fmt.Sprintf("layers.%d.", i) }

// Params lists the parameters of a valid configuration in the order in which
// the forward pass first needs them.
func (c Config) Params() []Param {
	list := paramList{layer: -1}
	list.add(EmbedTokens, Embedding, c.VocabSize, c.HiddenSize)
	for i, kind := range c.LayerKinds() {
		list.layer, list.prefix = i, LayerPrefix(i)
		list.add(InputLayernorm, Norm, c.HiddenSize)
		if kind.Mixer == AttentionMixer {
			c.attentionParams(&list)
		} else {
			c.mambaParams(&list)
		}
		if kind.FFN != NoFeedForward {
			list.add(PreFFLayernorm, Norm, c.HiddenSize)
			c.feedForwardParams(&list, kind.FFN)
		}
	}
	list.layer, list.prefix = -1, ""
	list.add(FinalLayernorm, Norm, c.HiddenSize)
	if !c.TieWordEmbeddings {
		list.add(LMHead, Linear, c.VocabSize, c.HiddenSize)
	}
	return list.params
}

func (c Config) attentionParams(list *paramList) {
	heads, kvHeads, dim := c.NumAttentionHeads, c.KeyValueHeads(), c.HeadDim()
	list.add(SelfAttnQKVProj, Linear, (heads+2*kvHeads)*dim, c.HiddenSize)
	list.add(SelfAttnOProj, Linear, c.HiddenSize, heads*dim)
}

func (c Config) mambaParams(list *paramList) {
	hidden, inner, states, rank := c.HiddenSize, c.InnerSize(), c.MambaDState, c.DtRank()
	list.add(MambaInProjX, Linear, inner, hidden)
	if c.MambaProjBias {
		list.add(MambaInProjXBias, Bias, inner)
	}
	list.add(MambaInProjZ, Linear, inner, hidden)
	if c.MambaProjBias {
		list.add(MambaInProjZBias, Bias, inner)
	}
	list.add(MambaConv1d, Conv, inner, c.MambaDConv)
	if c.MambaConvBias {
		list.add(MambaConv1dBias, Bias, inner)
	}
	list.add(MambaXProj, Linear, rank+2*states, inner)
	if c.MambaInnerNorms {
		list.add(MambaDtLayernorm, Norm, rank)
		list.add(MambaBLayernorm, Norm, states)
		list.add(MambaCLayernorm, Norm, states)
	}
	list.add(MambaDtProj, DtWeight, inner, rank)
	list.add(MambaDtProjBias, DtBias, inner)
	list.add(MambaALog, ALog, inner, states)
	list.add(MambaD, Skip, inner)
	list.add(MambaOutProj, Linear, hidden, inner)
	if c.MambaProjBias {
		list.add(MambaOutProjBias, Bias, hidden)
	}
}

func (c Config) feedForwardParams(list *paramList, ffn FeedForward) {
	hidden, inner, experts := c.HiddenSize, c.IntermediateSize, c.NumExperts
	if ffn == MLP {
		list.add(MLPGateUpProj, Linear, 2*inner, hidden)
		list.add(MLPDownProj, Linear, hidden, inner)
		return
	}
	list.add(MoERouter, Router, experts, hidden)
	list.add(ExpertsGateUpProj, Experts, experts, 2*inner, hidden)
	list.add(ExpertsDownProj, Experts, experts, hidden, inner)
}

// paramList collects the parameters of one layer after the other.
type paramList struct {
	params []Param
	layer  int
	prefix string
}

func (l *paramList) add(name string, kind Kind, shape ...int) {
	l.params = append(l.params, Param{
		Name:    l.prefix + name,
		Shape:   shape,
		Layer:   l.layer,
		Kind:    kind,
		NoDecay: !kind.decays(),
		Expert:  kind == Experts,
	})
}
