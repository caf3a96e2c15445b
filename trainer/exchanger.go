package trainer

import (
	"context"
	"time"

	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/parallel"
)

// exchanger is the ranks that share the experts out, as package model sees them.
type exchanger struct {
	group  parallel.Group
	ctx    context.Context // of the step that runs
	step   int64
	counts []int
	busy   time.Duration // rows were under way
}

// newExchange returns the kernels of a model's shared experts, nil where this rank
// holds all experts.
func newExchange(be engine.Backend, cfg Config, t *team) (*model.Exchange, *exchanger) {
	if t.mesh.Expert == 1 {
		return nil, nil
	}
	x := newExchanger(t)
	ranks := model.Exchanger(x)
	if g, ok := t.row.(parallel.TensorGroup); ok {
		ranks = &tensorExchanger{exchanger: x, group: g}
	}
	if parts := cfg.Trainer.treeParts(t.size()); parts > 0 {
		return model.NewTreeExchange(be, ranks, parts), x
	}
	return model.NewExchange(be, ranks, cfg.Parallel.ExpertChunk), x
}

func newExchanger(t *team) *exchanger {
	return &exchanger{group: t.row, ctx: context.Background(), counts: make([]int, t.row.Size())}
}

// kernels are those of the exchange, if there is one.
func kernels(e *model.Exchange) map[string]engine.Kernel {
	if e == nil {
		return nil
	}
	return e.Kernels()
}

// at says which step the exchanges from now on belong to.
func (x *exchanger) at(ctx context.Context, step int64) {
	if x != nil {
		x.ctx, x.step = ctx, step
	}
}

func (x *exchanger) Rank() int { return x.group.Rank() }
func (x *exchanger) Size() int { return x.group.Size() }

// Counts implements model.Exchanger.
func (x *exchanger) Counts(mine, all []int32) error {
	copy(all[x.Rank()*len(mine):], mine)
	for i := range x.counts {
		x.counts[i] = len(mine)
	}
	return parallel.AllGather(x.ctx, x.group, parallel.Op{Step: x.step, Name: "rows of each expert"}, all, x.counts)
}

// AllToAll implements model.Exchanger.
func (x *exchanger) AllToAll(send []byte, sendCounts []int, recv []byte, recvCounts []int) error {
	defer func(began time.Time) { x.busy += time.Since(began) }(time.Now())
	return x.group.AllToAll(x.ctx, parallel.Op{Step: x.step, Name: "rows of tokens"}, send, sendCounts, recv, recvCounts)
}

// tensorExchanger is an exchanger among devices.
type tensorExchanger struct {
	*exchanger
	group      parallel.TensorGroup
	send, recv []parallel.Piece
}

// Move implements model.TensorExchanger.
func (x *tensorExchanger) Move(send, recv []model.Moved) error {
	pieces := func(to []parallel.Piece, all []model.Moved) []parallel.Piece {
		to = to[:0]
		for _, m := range all {
			to = append(to, parallel.Piece{Rank: m.Rank, Tensor: m.Tensor})
		}
		return to
	}
	x.send, x.recv = pieces(x.send, send), pieces(x.recv, recv)
	if err := x.group.ExchangeTensors(x.ctx, parallel.Op{Step: x.step, Name: "rows of tokens"}, 0, x.send, x.recv); err != nil {
		return err
	}
	return x.group.Lead()
}

// Settle implements model.TensorExchanger.
func (x *tensorExchanger) Settle() error {
	took, err := x.group.Finish(x.ctx, parallel.Op{Step: x.step, Name: "rows of tokens"})
	x.busy += took
	return err
}
