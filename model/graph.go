package model

import (
	"fmt"
	"strings"

	G "gorgonia.org/gorgonia"

	"jambalaya/model/op"
)

// stack builds the layers of one graph. In training graphs sequences start from
// nothing; in decoding graphs every layer has a state (see states).
type stack struct {
	*op.Builder
	cfg           Config
	params        map[string]*G.Node
	docs          *G.Node // [B,L] document ordinals
	batch, length int
	held          ExpertRange
	states        *states // nil in training

	hidden       []*G.Node // embedding output, then each layer's; the last one normed
	probs, index []*G.Node // router outputs of each MoE layer
	capacity     int       // of an expert for each sequence; 0: no limit
	drops        []*G.Node // [B,E] of each MoE layer, where there is a limit
}

func newStack(cfg Config, batch, length int, held ExpertRange) *stack {
	s := &stack{Builder: op.NewBuilder(), cfg: cfg, params: map[string]*G.Node{}, batch: batch, length: length, held: held}
	for _, p := range cfg.heldParams(held) {
		s.params[p.Name] = s.Param(p.Name, p.Shape...)
	}
	s.docs = s.Ints("docs", batch, length)
	return s
}

// weight returns a parameter of the model.
func (s *stack) weight(name string) *G.Node {
	n, ok := s.params[name]
	if !ok {
		panic(fmt.Sprintf("model: no parameter %q", name))
	}
	return n
}

// linear is x w^T, plus the bias if the model has one.
func (s *stack) linear(x *G.Node, weight string) *G.Node {
	y := s.MatMul(x, s.weight(weight), false, true)
	if bias, ok := s.params[strings.TrimSuffix(weight, ".weight")+".bias"]; ok {
		y = s.AddBias(y, bias)
	}
	return y
}

// forward is the decoder up to the final norm: [T,H].
//
// Each sublayer adds to the residual stream. The sum is taken by the norm of the
// sublayer that follows, so that x and delta here are the two operands of an
// addition that is still to come.
func (s *stack) forward(tokensBL *G.Node) *G.Node {
	eps := s.cfg.RMSNormEps
	x := s.Embedding(s.weight(EmbedTokens), tokensBL, s.cfg.EmbeddingPad())
	var delta *G.Node
	for i, kind := range s.cfg.LayerKinds() {
		end := s.Layer(i)
		y, sum := s.norm(x, delta, s.weight(LayerPrefix(i)+InputLayernorm), eps)
		s.hidden = append(s.hidden, sum)
		delta = s.mixer(y, i, kind.Mixer)
		if kind.FFN != NoFeedForward {
			y, sum = s.AddRMSNorm(sum, delta, s.weight(LayerPrefix(i)+PreFFLayernorm), eps)
			delta = s.feedForward(y, i, kind.FFN)
		}
		x = sum
		end()
	}
	y, sum := s.norm(x, delta, s.weight(FinalLayernorm), eps)
	if s.cfg.ModelType == Mamba { // the reference lists no embedding, but the last layer before the norm
		s.hidden = append(s.hidden[1:], sum)
	}
	s.hidden = append(s.hidden, y)
	return y
}

// norm returns the sum x + delta and its RMSNorm; delta is nil before the first
// sublayer.
func (s *stack) norm(x, delta, w *G.Node, eps float64) (y, sum *G.Node) {
	if delta == nil {
		return s.RMSNorm(x, w, eps), x
	}
	return s.AddRMSNorm(x, delta, w, eps)
}

func (s *stack) mixer(x *G.Node, layer int, kind Mixer) *G.Node {
	if kind == AttentionMixer {
		return s.attention(x, layer)
	}
	return s.mamba(x, layer)
}

func (s *stack) feedForward(x *G.Node, layer int, kind FeedForward) *G.Node {
	if kind == MoE {
		return s.moe(x, layer)
	}
	return s.mlp(x, layer)
}

// logits is the head, tied to the embedding where the model says so.
func (s *stack) logits(x *G.Node) *G.Node {
	head := LMHead
	if s.cfg.TieWordEmbeddings {
		head = EmbedTokens
	}
	return s.MatMul(x, s.weight(head), false, true)
}
