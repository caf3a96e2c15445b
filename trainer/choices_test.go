package trainer

import (
	"errors"
	"fmt"
	"math"
	"math/bits"

	"jambalaya/internal/engine"
	"jambalaya/model"
)

// choices are the experts that routers have chosen: of every step, layer and token of the
// global batch, in the order in which one rank alone reads it, whatever ranks computed
// them.
type choices struct {
	cfg     Config
	tokens  int        // of a step
	experts [][]uint64 // [steps x layers][tokens]: a bit an expert
	margins [][]float32
	layers  int
}

func newChoices(cfg Config) *choices {
	c := &choices{cfg: cfg, tokens: cfg.Trainer.BatchSize * cfg.Trainer.Accumulation * cfg.Data.SequenceLength}
	for _, kind := range cfg.Model.LayerKinds() {
		if kind.FFN == model.MoE {
			c.layers++
		}
	}
	for range cfg.Trainer.Steps * c.layers {
		c.experts = append(c.experts, make([]uint64, c.tokens))
		c.margins = append(c.margins, make([]float32, c.tokens))
	}
	return c
}

// follow reads what the routers of a rank choose from now on.
func (c *choices) follow(l *learner) {
	layer := 0
	for _, in := range l.graph.Program.Instrs {
		if in.Kernel == "router_topk" {
			c.followLayer(l, layer, in)
			layer++
		}
	}
	if layer != c.layers {
		panic(fmt.Sprintf("%d routers, not %d", layer, c.layers))
	}
}

func (c *choices) followLayer(l *learner, layer int, in engine.Instr) {
	chosen, logits := l.plan.Tensor(in.Out[2]), l.plan.Tensor(in.In[0])
	k, n := chosen.Dim(1), logits.Dim(1)
	index, scores := make([]int32, chosen.Size()), make([]float32, logits.Size())
	rows, runs := chosen.Dim(0), 0 // tokens of the rank's part of a micro-batch, and micro-batches so far
	l.plan.OnReady(in.Out[2], func() {
		if err := errors.Join(l.backend.Read(index, chosen), l.backend.Read(scores, logits)); err != nil {
			panic(err)
		}
		step, micro := runs/l.micro, runs%l.micro
		runs++
		at := step*c.layers + layer
		first := (l.team.rank*l.micro + micro) * rows
		for row := range rows {
			set := uint64(0)
			for _, e := range index[row*k : (row+1)*k] {
				set |= 1 << e
			}
			c.experts[at][first+row] = set
			c.margins[at][first+row] = margin(scores[row*n:(row+1)*n], set)
		}
	})
}

// margin is by how much the least of the chosen is ahead of the best of the others.
func margin(logits []float32, set uint64) float32 {
	least, best := float32(math.Inf(1)), float32(math.Inf(-1))
	for e, x := range logits {
		if set>>e&1 == 1 {
			least = min(least, x)
		} else {
			best = max(best, x)
		}
	}
	return least - best
}

// firstFlip returns the first step, from 1, in which a token goes to other experts than in
// another run, and says where; 0 if there is none.
func (c *choices) firstFlip(of *choices) (step int, what string) {
	for at := range c.experts {
		token, flips, moved := 0, 0, make([]int, c.cfg.Model.NumExperts)
		for i, set := range c.experts[at] {
			before := of.experts[at][i]
			if set == before {
				continue
			}
			if flips++; flips == 1 {
				token = i
			}
			for e := range moved {
				moved[e] += int(set>>e&1) - int(before>>e&1)
			}
		}
		if flips == 0 {
			continue
		}
		step = at/c.layers + 1
		length := c.cfg.Data.SequenceLength
		return step, fmt.Sprintf("step %d, layer %d, sequence %d, position %d: experts %v instead of %v, with margins of %.1e and %.1e; %d flips in the layer, by which the loads change by %v",
			step, at%c.layers, token/length, token%length, members(c.experts[at][token]), members(of.experts[at][token]),
			c.margins[at][token], of.margins[at][token], flips, moved)
	}
	return 0, "none"
}

func members(set uint64) (all []int) {
	for ; set != 0; set &= set - 1 {
		all = append(all, bits.TrailingZeros64(set))
	}
	return all
}
