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
	spent  time.Duration
}

// newExchange returns the kernels of a model's shared experts, nil where this rank
// holds all experts.
func newExchange(be engine.Backend, cfg Config, t *team) (*model.Exchange, *exchanger) {
	if t.mesh.Expert == 1 {
		return nil, nil
	}
	x := newExchanger(t)
	return model.NewExchange(be, x, cfg.Parallel.ExpertChunk), x
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
	defer x.time(time.Now())
	copy(all[x.Rank()*len(mine):], mine)
	for i := range x.counts {
		x.counts[i] = len(mine)
	}
	return parallel.AllGather(x.ctx, x.group, parallel.Op{Step: x.step, Name: "rows of each expert"}, all, x.counts)
}

// AllToAll implements model.Exchanger.
func (x *exchanger) AllToAll(send []byte, sendCounts []int, recv []byte, recvCounts []int) error {
	defer x.time(time.Now())
	return x.group.AllToAll(x.ctx, parallel.Op{Step: x.step, Name: "rows of tokens"}, send, sendCounts, recv, recvCounts)
}

func (x *exchanger) time(since time.Time) { x.spent += time.Since(since) }
