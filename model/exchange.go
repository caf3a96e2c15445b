package model

import (
	"fmt"

	G "gorgonia.org/gorgonia"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
)

// Exchanger moves rows between the ranks that share the experts out: rank r of Size
// holds the r-th part of them. All ranks make the same calls in the same order.
type Exchanger interface {
	Rank() int
	Size() int
	// Counts gives every rank those of all: all[r*len(mine):] are rank r's.
	Counts(mine, all []int32) error
	// AllToAll sends part i of send to rank i and receives part i of recv from rank i.
	// Counts are bytes.
	AllToAll(send []byte, sendCounts []int, recv []byte, recvCounts []int) error
}

// TensorExchanger is an Exchanger that moves rows from the memory of one device to that
// of another. Plans may be started meanwhile: a move comes after those that were started
// before, and before those that are started later.
type TensorExchanger interface {
	Exchanger
	// Move sends tensors and receives others. What a rank sends to another is what that
	// one receives from it, one by one.
	Move(send, recv []Moved) error
	// Settle returns when all moves are done.
	Settle() error
}

// Moved is a tensor on its way to a rank, or from it.
type Moved struct {
	Rank   int
	Tensor *engine.Tensor
}

// Exchange computes experts that several ranks hold: it brings the kernels of
// op.Experts to the plans of one model, which never run at the same time.
//
// A rank receives rows in rounds of at most a fixed number, computes them and sends
// them back before the next round. So its memory depends on how many rows it sends,
// and not on how many the router sends to it; a round more is what imbalance costs.
type Exchange struct {
	backend engine.Backend
	ranks   Exchanger
	direct  TensorExchanger // ranks, if rows need not pass through the host
	chunk   float64
	parts   int // whose gradients are added up in trees; 0: rounds add them up
	part    int // that is computed

	arena   *engine.Tensor            // of the experts' plans, the largest so far
	buffers map[string]*engine.Tensor // rows on the device, by use and shape
	staging map[string]*hostRows      // and on the host
	memory  []engine.Memory
	plans   []*engine.Plan
	trees   []*TreeSum
	last    map[place]*counts // by the weights of the layer, where rows move directly

	// Of the layer that is computed, where there is a capacity: see limit.
	weights    []float32
	assignment []int32
	travelling []int32
}

// NewExchange returns the kernels of ranks that share the experts out. A round has
// room for chunk times the rows that a rank sends.
func NewExchange(be engine.Backend, ranks Exchanger, chunk float64) *Exchange {
	direct, _ := ranks.(TensorExchanger)
	return &Exchange{backend: be, ranks: ranks, direct: direct, chunk: chunk, buffers: map[string]*engine.Tensor{}, staging: map[string]*hostRows{}, last: map[place]*counts{}}
}

// NewTreeExchange is NewExchange where the gradients of the experts' weights have bits that
// do not depend on how many ranks share the experts out, a power of two. A round has the rows
// that one rank sends to another, all of them, so that products are those that it would
// compute alone. Each rank computes so many parts of a step, and says which with Begin; the
// gradients of all are added up in one tree, first the parts of a sender, then the senders. After the
// last part they are there.
func NewTreeExchange(be engine.Backend, ranks Exchanger, parts int) *Exchange {
	e := NewExchange(be, ranks, 1)
	e.parts = parts
	return e
}

// Begin says which part of a step runs next, from 0.
func (e *Exchange) Begin(part int) { e.part = part }

// Kernels are those that a plan needs: see engine.Options.
func (e *Exchange) Kernels() map[string]engine.Kernel {
	return map[string]engine.Kernel{
		op.ExpertsKernel:     exchangeKernel{e, false},
		op.ExpertsGradKernel: exchangeKernel{e, true},
	}
}

// Bytes is the memory of the exchange, on the device and on the host.
func (e *Exchange) Bytes() int64 {
	var n int64
	for _, m := range e.memory {
		n += m.Bytes()
	}
	for _, h := range e.staging {
		n += int64(len(h.bytes))
	}
	for _, t := range e.trees {
		n += t.Bytes()
	}
	return n + 4*int64(cap(e.weights)+cap(e.assignment)+cap(e.travelling))
}

// Close frees its memory, after the plans that use it.
func (e *Exchange) Close() {
	for _, p := range e.plans {
		p.Close()
	}
	for _, t := range e.trees {
		t.Close()
	}
	for _, m := range e.memory {
		e.backend.Free(m)
	}
	e.plans, e.trees, e.memory = nil, nil, nil
}

// exchangeKernel implements engine.Kernel.
type exchangeKernel struct {
	*Exchange
	backward bool
}

func (k exchangeKernel) Scratch(*engine.Call) int { return 0 }

func (k exchangeKernel) Bind(c *engine.Call) (func() error, error) {
	in := c.In
	l := &expertLayer{Exchange: k.Exchange}
	if k.backward {
		l.dys, in, l.dxs = in[0], in[1:], c.Out[0]
	} else {
		l.ys = c.Out[0]
	}
	l.xs, l.gateUp, l.down, l.offsets = in[0], in[1], in[2], in[3]
	l.rows, l.width, l.experts = l.xs.Dim(0), l.xs.Dim(1), l.offsets.Size()-1
	held := l.gateUp.Dim(0)
	if held*k.ranks.Size() != l.experts {
		return nil, fmt.Errorf("%d experts on each of %d ranks are not the %d of a layer", held, k.ranks.Size(), l.experts)
	}
	if len(in) > 4 && k.direct == nil && k.parts == 0 { // else dropped rows travel too, in fewer pieces
		l.limited(in[4], in[5])
	}
	l.room = max(1, int(k.chunk*float64(l.rows)))
	l.routes = newRoutes(k.ranks.Rank(), k.ranks.Size(), l.experts, l.room)
	l.routes.bySender = k.parts > 0
	l.firsts, l.counts = make([]int32, l.experts+1), make([]int32, l.experts)
	l.all, l.localHost = make([]int32, k.ranks.Size()*l.experts), make([]int32, held+1)
	var err error
	if l.local, err = k.buffer("offsets", engine.Int32, held+1); err != nil {
		return nil, err
	}
	if k.direct != nil {
		if err := l.bindDirect(); err != nil {
			return nil, err
		}
	}
	if k.backward {
		return l.bindBackward(c)
	}
	return l.bindForward()
}

// expertLayer is one pass of one layer.
type expertLayer struct {
	*Exchange
	xs, dys, ys, dxs      *engine.Tensor // [S,H] in expert order; nil where the pass has none
	gateUp, down, offsets *engine.Tensor
	rows, width, experts  int
	room                  int    // rows of a round
	limit                 *limit // nil: all rows travel

	routes      *routes
	firsts      []int32        // row of each expert, and S
	counts, all []int32        // rows of each expert: this rank's, and those of all ranks
	given       []transfer     // to the ranks that hold the experts
	result      transfer       // and back
	first, more *engine.Plan   // of the first round and the later ones
	local       *engine.Tensor // [held+1] offsets of the experts in a round
	localHost   []int32
	known       *counts        // where rows move directly
	everyone    *engine.Tensor // [ranks,E+1] offsets of all ranks

	senders [][]*TreeSum // of the parts of the sender of each round, by round and tensor
	across  []*TreeSum   // of the senders, by tensor
}

// transfer is a tensor whose rows travel: here in the rank's own order, there in that
// of the experts that are held.
type transfer struct {
	here, there         *engine.Tensor
	hereHost, thereHost *hostRows // nil where rows move directly
}

func (l *expertLayer) transfer(use string, here *engine.Tensor) (transfer, error) {
	there, err := l.buffer(use, here.DType, l.room, l.width)
	if l.direct != nil {
		return transfer{here: here, there: there}, err
	}
	return transfer{here, there, l.host(use+" here", here), l.host(use+" there", there)}, err
}

func (l *expertLayer) bindForward() (func() error, error) {
	xs, err := l.transfer("xs", l.xs)
	if err != nil {
		return nil, err
	}
	if l.result, err = l.transfer("ys", l.ys); err != nil {
		return nil, err
	}
	l.given = []transfer{xs}
	b := newExpertGraph(l)
	if l.first, err = b.plan([]*G.Node{b.ys}, []*engine.Tensor{l.result.there}); err != nil {
		return nil, err
	}
	l.more = l.first
	return l.pass(), nil
}

func (l *expertLayer) bindBackward(c *engine.Call) (func() error, error) {
	xs, err := l.transfer("xs", l.xs)
	if err != nil {
		return nil, err
	}
	dys, err := l.transfer("dys", l.dys)
	if err != nil {
		return nil, err
	}
	if l.result, err = l.transfer("dxs", l.dxs); err != nil {
		return nil, err
	}
	l.given = []transfer{xs, dys}
	if l.parts > 0 {
		if err := l.plant(c.Out[1:]); err != nil {
			return nil, err
		}
	}
	for _, round := range []struct {
		plan **engine.Plan
		sums bool
	}{{&l.first, false}, {&l.more, true}} {
		b := newExpertGraph(l)
		grads, err := b.gradients(round.sums, c.Out[1:])
		if err != nil {
			return nil, err
		}
		if *round.plan, err = b.plan(grads, []*engine.Tensor{l.result.there, c.Out[1], c.Out[2]}); err != nil {
			return nil, err
		}
	}
	return l.pass(), nil
}

// pass is what a call of the layer runs.
func (l *expertLayer) pass() func() error {
	if l.direct != nil {
		return l.runDirect
	}
	return l.run
}
