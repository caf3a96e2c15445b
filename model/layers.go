package model

// Mixer is the part of a layer that moves information between positions.
type Mixer uint8

const (
	MambaMixer Mixer = iota
	AttentionMixer
)

// FeedForward is the part of a layer that works on each position by itself.
type FeedForward uint8

const (
	NoFeedForward FeedForward = iota
	MLP
	MoE
)

// LayerKind says what a layer is made of.
type LayerKind struct {
	Mixer Mixer
	FFN   FeedForward
}

// patternLetters are the layers that Config.LayerPattern can name.
var patternLetters = map[rune]LayerKind{
	'm': {MambaMixer, MLP},
	'M': {MambaMixer, MoE},
	'a': {AttentionMixer, MLP},
	'A': {AttentionMixer, MoE},
}

// uniformLayers are the layers of the families that have one kind only.
var uniformLayers = map[ModelType]LayerKind{
	Mixtral: {AttentionMixer, MoE},
	Llama:   {AttentionMixer, MLP},
	Mamba:   {MambaMixer, NoFeedForward},
}

// LayerKinds lists what each layer is made of. The configuration must be valid.
func (c Config) LayerKinds() []LayerKind {
	kinds := make([]LayerKind, c.NumHiddenLayers)
	for i := range kinds {
		kinds[i] = c.layerKind(i)
	}
	return kinds
}

func (c Config) layerKind(i int) LayerKind {
	if kind, ok := uniformLayers[c.ModelType]; ok {
		return kind
	}
	if n := len(c.LayerPattern); n > 0 {
		return patternLetters[rune(c.LayerPattern[i%n])]
	}
	kind := LayerKind{MambaMixer, MLP}
	if i%c.AttnLayerPeriod == c.AttnLayerOffset {
		kind.Mixer = AttentionMixer
	}
	if c.NumExperts > 1 && i%c.ExpertLayerPeriod == c.ExpertLayerOffset {
		kind.FFN = MoE
	}
	return kind
}
