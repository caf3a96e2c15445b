package model

import (
	"fmt"

	"jambalaya/internal/engine"
)

// prefillChunk is how many tokens of a prompt one plan reads at a time.
const prefillChunk = 32

// Generator runs a model token by token. It holds the states of one sequence:
// keys and values of attention layers, the last inputs of each convolution, and
// the state of each scan.
type Generator struct {
	backend  engine.Backend
	exchange *Exchange // nil where all experts are here
	capacity int
	pos      int
	states   map[string]*engine.Tensor
	chunk    *decoder // reads prefillChunk tokens
	step     *decoder // reads one
	logits   []float32
}

// decoder is a bound DecodingGraph.
type decoder struct {
	graph *DecodingGraph
	plan  *engine.Plan
}

// NewGenerator prepares generation of up to capacity tokens, prompt included.
func NewGenerator(be engine.Backend, w *Weights, capacity int) (*Generator, error) {
	return newGenerator(be, w, capacity, nil)
}

// NewSharedGenerator is NewGenerator for ranks that share the experts out. All of them
// read the same tokens in the same calls; the generator closes the exchange.
func NewSharedGenerator(be engine.Backend, w *Weights, capacity int, ranks Exchanger) (*Generator, error) {
	// All rows fit into a round, wherever they go: there are few.
	return newGenerator(be, w, capacity, NewExchange(be, ranks, float64(ranks.Size())))
}

func newGenerator(be engine.Backend, w *Weights, capacity int, x *Exchange) (*Generator, error) {
	g := &Generator{backend: be, exchange: x, capacity: capacity, states: map[string]*engine.Tensor{}, logits: make([]float32, w.Config.VocabSize)}
	var err error
	if g.step, err = g.decoder(w, 1); err == nil {
		g.chunk, err = g.decoder(w, prefillChunk)
	}
	if err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// decoder builds a plan whose states are shared with the generator's other plan.
func (g *Generator) decoder(w *Weights, length int) (*decoder, error) {
	graph, err := NewDecodingGraph(w.Config, 1, length, g.capacity, w.Shared())
	if err != nil {
		return nil, err
	}
	bind := w.Bind(graph.Params, nil, nil)
	for _, s := range graph.States {
		if g.states[s.Name] == nil {
			mem, err := g.backend.Alloc(4 * int64(engine.Size(s.Shape)))
			if err != nil {
				return nil, fmt.Errorf("model: state %s: %w", s.Name, err)
			}
			g.states[s.Name] = &engine.Tensor{Shape: s.Shape, DType: engine.Float32, Mem: mem}
		}
		bind[s.Value] = g.states[s.Name]
	}
	opt := engine.Options{Bind: bind}
	if g.exchange != nil {
		opt.Exchange = g.exchange.Kernels()
	}
	plan, err := engine.NewPlan(graph.Program, g.backend, opt)
	if err != nil {
		return nil, fmt.Errorf("model: %w", err)
	}
	return &decoder{graph: graph, plan: plan}, nil
}

// Pos is the number of tokens read so far.
func (g *Generator) Pos() int { return g.pos }

// Reset forgets the sequence.
func (g *Generator) Reset() error {
	g.pos = 0
	for _, t := range g.states {
		if err := g.backend.Write(t, make([]float32, t.Size())); err != nil {
			return err
		}
	}
	return nil
}

// Read feeds tokens and returns the logits [V] after the last of them. The slice
// is valid until the next call.
func (g *Generator) Read(tokens []int32) ([]float32, error) {
	if len(tokens) == 0 || g.pos+len(tokens) > g.capacity {
		return nil, fmt.Errorf("model: generate %d tokens at position %d: the capacity is %d", len(tokens), g.pos, g.capacity)
	}
	var last *decoder
	for len(tokens) > 0 {
		last = g.step
		if len(tokens) >= prefillChunk {
			last = g.chunk
		}
		n := last.graph.Length
		if err := g.run(last, tokens[:n]); err != nil {
			return nil, err
		}
		tokens = tokens[n:]
	}
	return g.logits, g.backend.Read(g.logits, last.plan.Tensor(last.graph.Logits))
}

func (g *Generator) run(d *decoder, tokens []int32) error {
	if err := g.backend.Write(d.plan.Tensor(d.graph.Tokens), tokens); err != nil {
		return err
	}
	if d.graph.Pos >= 0 {
		if err := g.backend.Write(d.plan.Tensor(d.graph.Pos), []int32{int32(g.pos)}); err != nil {
			return err
		}
	}
	if err := d.plan.Run(); err != nil {
		return fmt.Errorf("model: generate at position %d: %w", g.pos, err)
	}
	g.pos += len(tokens)
	return nil
}

// StateBytes is the memory of the states: what a context costs.
func (g *Generator) StateBytes() int64 {
	var n int64
	for _, t := range g.states {
		n += t.Bytes()
	}
	return n
}

// Close frees the plans and states.
func (g *Generator) Close() {
	for _, d := range []*decoder{g.step, g.chunk} {
		if d != nil {
			d.plan.Close()
		}
	}
	if g.exchange != nil {
		g.exchange.Close()
	}
	for _, t := range g.states {
		g.backend.Free(t.Mem)
	}
}
