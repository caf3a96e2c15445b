package model

// Counts are numbers of parameters.
type Counts struct {
	Total  int64
	Active int64 // without the experts that a token does not choose
}

// Counts counts the parameters of a valid configuration. A tied embedding
// counts once.
func (c Config) Counts() Counts {
	var n Counts
	for _, p := range c.Params() {
		n.Total += int64(p.Size())
		n.Active += c.activeSize(p)
	}
	return n
}

// activeSize is the number of elements of p that one token uses.
func (c Config) activeSize(p Param) int64 {
	if p.Expert {
		return int64(p.Size() / c.NumExperts * c.NumExpertsPerTok)
	}
	return int64(p.Size())
}

// FLOPs are the floating-point operations of the forward pass for one token, a
// multiplication with an addition being two.
type FLOPs struct {
	MatMul    float64 // products with weights, active experts and head included
	Attention float64 // scores and weighted values, a mean over causal positions
	Scan      float64 // the recurrence of the Mamba layers
	Conv      float64 // their convolutions
}

// scanFLOPs is what the recurrence costs for one state: the decay's exponent and
// exponential, the decayed state, the input, their sum, and two for the output.
const scanFLOPs = 7

// FLOPs counts the operations of a token in a document of length tokens.
// Norms, activations, the router's choice and the loss are left out, as is usual;
// they are below a hundredth of the whole in all but tiny models.
func (c Config) FLOPs(length int) FLOPs {
	var f FLOPs
	for _, p := range c.Params() {
		elements := float64(c.activeSize(p))
		switch p.Kind {
		case Linear, Router, Experts, DtWeight:
			f.MatMul += 2 * elements
		case Embedding:
			if c.TieWordEmbeddings { // then it is the head as well
				f.MatMul += 2 * elements
			}
		case Conv:
			f.Conv += 2 * elements
		case ALog:
			f.Scan += scanFLOPs * elements
		}
	}
	for _, kind := range c.LayerKinds() {
		if kind.Mixer == AttentionMixer {
			// A position sees (length+1)/2 positions on average, in two products.
			f.Attention += 4 * float64(c.HiddenSize) * float64(length+1) / 2
		}
	}
	return f
}

// Forward is the sum of all parts.
func (f FLOPs) Forward() float64 { return f.MatMul + f.Attention + f.Scan + f.Conv }

// Training is the cost of forward and backward, which takes the gradient of both
// operands of every product: three times the forward pass. What is computed
// again to save memory is not counted.
func (f FLOPs) Training() float64 { return 3 * f.Forward() }
