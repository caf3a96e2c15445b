package trainer

import (
	"jambalaya/internal/engine"
	"jambalaya/model"
)

// input is host data for an input of a plan; Value -1 is one the graph lacks.
type input struct {
	value engine.ValueID
	host  any
}

func writeInputs(be engine.Backend, plan *engine.Plan, inputs []input) error {
	for _, in := range inputs {
		if in.value < 0 {
			continue
		}
		if err := be.Write(plan.Tensor(in.value), in.host); err != nil {
			return err
		}
	}
	return nil
}

// readings add up what the micro-batches of a step report, in one tree as gradients are:
// see addPairs.
type readings struct {
	lossOut, auxOut, loadOut *engine.Tensor   // the last two are nil without experts
	dropsOut                 []*engine.Tensor // by MoE layer; nil without a capacity

	// sums are the loss, the load-balancing loss, the assignments by MoE layer and
	// expert, and those dropped by MoE layer: together, as they are added up over the ranks.
	sums []float64
	each [][]float64 // the same of each micro-batch; sums is the first of them

	one, loads, dropped []float32 // host memory
}

func newReadings(g *model.TrainingGraph, plan *engine.Plan, micro int) readings {
	r := readings{lossOut: plan.Tensor(g.Loss), one: make([]float32, 1)}
	if g.Aux >= 0 {
		r.auxOut, r.loadOut = plan.Tensor(g.Aux), plan.Tensor(g.Load)
		r.loads = make([]float32, r.loadOut.Size())
		for _, d := range g.Drops {
			r.dropsOut = append(r.dropsOut, plan.Tensor(d))
			r.dropped = make([]float32, r.dropsOut[0].Size())
		}
	}
	for range micro {
		r.each = append(r.each, make([]float64, 2+len(r.loads)+len(r.dropsOut)))
	}
	r.sums = r.each[0]
	return r
}

func (r *readings) loss() float64   { return r.sums[0] }
func (r *readings) aux() float64    { return r.sums[1] }
func (r *readings) load() []float64 { return r.sums[2:][:len(r.loads)] }

// drops are the assignments dropped by MoE layer, empty without a capacity.
func (r *readings) drops() []float64 { return r.sums[2+len(r.loads):] }

// read takes the outputs of the plan's last run for those of micro-batch i.
func (r *readings) read(be engine.Backend, i int) error {
	x := r.each[i]
	clear(x)
	if err := be.Read(r.one, r.lossOut); err != nil {
		return err
	}
	x[0] = float64(r.one[0])
	if r.auxOut == nil {
		return nil
	}
	if err := be.Read(r.one, r.auxOut); err != nil {
		return err
	}
	x[1] = float64(r.one[0])
	if err := be.Read(r.loads, r.loadOut); err != nil {
		return err
	}
	for i, n := range r.loads {
		x[2+i] = float64(n)
	}
	for layer, out := range r.dropsOut {
		if err := be.Read(r.dropped, out); err != nil {
			return err
		}
		for _, n := range r.dropped {
			x[2+len(r.loads)+layer] += float64(n)
		}
	}
	return nil
}

// total adds the micro-batches up.
func (r *readings) total() { addPairs(r.each) }

// addPairs adds rows up in one tree, neighbours, then neighbouring sums: the first has the
// sum, and the others are used up. So a power of two of rows gives the bits of the sum of
// its halves, wherever those were added up.
func addPairs(rows [][]float64) {
	for d := 1; d < len(rows); d *= 2 {
		for i := 0; i+d < len(rows); i += 2 * d {
			for j, x := range rows[i+d] {
				rows[i][j] += x
			}
		}
	}
}

// shares returns each expert's share of its layer's assignments.
func (r *readings) shares(experts int) [][]float64 {
	var all [][]float64
	load := r.load()
	for i := 0; i < len(load); i += experts {
		row, total := make([]float64, experts), 0.0
		for _, n := range load[i : i+experts] {
			total += n
		}
		for e := range row {
			row[e] = load[i+e] / max(1, total)
		}
		all = append(all, row)
	}
	return all
}
