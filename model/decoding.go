package model

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// DecodingGraph runs length tokens of one document a batch row from the states
// that the tokens before them left, and leaves its own: with a length of many it
// reads a prompt, with a length of 1 it generates. States are updated in place,
// so that a step costs the same at any position of a Mamba layer.
type DecodingGraph struct {
	Config        Config
	Batch, Length int
	Program       *engine.Program

	Params []engine.ValueID // in the order of Config.Params
	Tokens engine.ValueID   // [B,L] int32
	Docs   engine.ValueID   // [B,L] int32, zeros
	Pos    engine.ValueID   // [1] int32: position of the first token; -1 without attention
	States []State
	Logits engine.ValueID // [B,V] after the last token
}

// State is a tensor that a layer carries from token to token.
type State struct {
	Name  string
	Shape []int
	Value engine.ValueID
}

// states are the state tensors of a decoding graph.
type states struct {
	s        *stack
	capacity int
	pos      *G.Node
	in, out  []*G.Node
	names    []string
}

// NewDecodingGraph builds and lowers the model for generation. capacity is the
// largest number of positions that attention layers can look back on; experts are those
// held here, as in GraphOptions.
func NewDecodingGraph(cfg Config, batch, length, capacity int, experts ExpertRange) (*DecodingGraph, error) {
	if batch > 1 && length > 1 {
		return nil, fmt.Errorf("model: a prompt of %d tokens is read one row at a time, not %d", length, batch)
	}
	s := newStack(cfg, batch, length, experts)
	s.UpdateStates()
	s.states = &states{s: s, capacity: capacity, pos: s.Ints("pos", 1)}
	tokens := s.Ints("tokens", batch, length)
	x := s.forward(tokens)
	logits := s.logits(s.Slice(x, (length-1)*cfg.HiddenSize, batch, cfg.HiddenSize))
	prog, err := engine.Lower(s.Graph(), append([]*G.Node{logits}, s.states.out...)...)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	id := func(n *G.Node) engine.ValueID {
		if v, ok := prog.Value(n); ok {
			return v
		}
		return -1
	}
	g := &DecodingGraph{Config: cfg, Batch: batch, Length: length, Program: prog, Tokens: id(tokens),
		Docs: id(s.docs), Pos: id(s.states.pos), Logits: id(logits)}
	for _, p := range cfg.Params() {
		g.Params = append(g.Params, id(s.params[p.Name]))
	}
	for i, n := range s.states.in {
		g.States = append(g.States, State{Name: s.states.names[i], Shape: n.Shape().Clone(), Value: id(n)})
	}
	return g, nil
}

func (t *states) add(name string, shape ...int) *G.Node {
	n := t.s.Input("state."+name, shape...)
	t.in, t.names = append(t.in, n), append(t.names, name)
	return n
}

// mamba returns a Mamba layer's states, the last inputs of the convolution
// [B,K-1,D] and the state of the scan [B,D,N]; nil in training.
func (t *states) mamba(layer int) (conv, scan *G.Node) {
	if t == nil {
		return nil, nil
	}
	c := t.s.cfg
	conv = t.add(fmt.Sprintf("layers.%d.conv", layer), t.s.batch, c.MambaDConv-1, c.InnerSize())
	scan = t.add(fmt.Sprintf("layers.%d.scan", layer), t.s.batch, c.InnerSize(), c.MambaDState)
	return conv, scan
}

// keepMamba makes the updated states outputs of the graph.
func (t *states) keepMamba(conv, scan *G.Node) {
	if t != nil {
		t.out = append(t.out, conv, scan)
	}
}

// attention reads and extends a layer's keys and values.
func (t *states) attention(s *stack, qkv *G.Node, layer int, h op.Heads) *G.Node {
	width := h.KVHeads * h.HeadDim
	keys := t.add(fmt.Sprintf("layers.%d.keys", layer), s.batch, t.capacity, width)
	values := t.add(fmt.Sprintf("layers.%d.values", layer), s.batch, t.capacity, width)
	out, keys, values := s.CachedAttention(qkv, keys, values, t.pos, h)
	t.out = append(t.out, keys, values)
	return out
}
