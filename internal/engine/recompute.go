package engine

import "fmt"

// Recompute says which activations are computed a second time in the backward
// pass instead of being kept.
type Recompute uint8

const (
	// RecomputeNone keeps every activation that the gradient reads.
	RecomputeNone Recompute = iota
	// RecomputeCheap runs operators that only move memory again (gates,
	// convolutions, gathers); matrix products and scans are kept.
	RecomputeCheap
	// RecomputeLayer runs all of a layer again but for the outputs that
	// operators mark Keep: residual stream, scan states, attention outputs.
	RecomputeLayer
)

// ParseRecompute reads a configuration value.
func ParseRecompute(s string) (Recompute, error) {
	switch s {
	case "", "none":
		return RecomputeNone, nil
	case "cheap":
		return RecomputeCheap, nil
	case "layer":
		return RecomputeLayer, nil
	}
	return 0, fmt.Errorf("recompute %q: want none, cheap or layer", s)
}

// withRecompute returns a program in which backward instructions read fresh
// copies of recomputed forward values. A copy is made right before its first
// use, once for each layer, so that the original dies in the forward pass.
func (p *Program) withRecompute(mode Recompute) *Program {
	if mode == RecomputeNone {
		return p
	}
	q := &Program{Values: append([]Value(nil), p.Values...), Inputs: p.Inputs, Outputs: p.Outputs, byNode: p.byNode}
	r := &recomputer{from: p, to: q, mode: mode, copies: map[ValueID]ValueID{}, instrs: map[int]bool{}}
	for i := range p.Instrs {
		in := p.Instrs[i]
		if in.Backward {
			in.In = append([]ValueID(nil), in.In...)
			for j, v := range in.In {
				in.In[j] = r.fresh(v)
			}
		}
		q.append(in)
	}
	return q
}

func (p *Program) append(in Instr) {
	for _, v := range in.Out {
		if v >= 0 {
			p.Values[v].Def = len(p.Instrs)
		}
	}
	p.Instrs = append(p.Instrs, in)
}

type recomputer struct {
	from, to *Program
	mode     Recompute
	copies   map[ValueID]ValueID // forward value -> its copy
	instrs   map[int]bool        // forward instructions already copied
}

// again says whether a forward instruction is run a second time.
func (r *recomputer) again(in *Instr) bool {
	if in.Backward || in.Layer == 0 || in.Kind != Compute {
		return false
	}
	for _, o := range in.Outs {
		if o.Updates > 0 {
			return false
		}
	}
	return in.Cheap || r.mode == RecomputeLayer
}

// fresh returns the value a backward instruction reads in place of v, emitting
// the instructions that compute it.
func (r *recomputer) fresh(v ValueID) ValueID {
	if c, ok := r.copies[v]; ok {
		return c
	}
	val := r.from.Values[v]
	if val.Base >= 0 {
		base := r.fresh(val.Base)
		if base == val.Base {
			return v
		}
		val.Base = base
		r.copies[v] = r.to.addValue(val)
		return r.copies[v]
	}
	if val.Def < 0 {
		return v
	}
	in := r.from.Instrs[val.Def]
	if !r.again(&in) || in.Outs[val.Out].Keep {
		return v
	}
	r.copy(val.Def)
	return r.copies[v]
}

// copy emits a second run of forward instruction i. Outputs marked Keep are not
// wanted again.
func (r *recomputer) copy(i int) {
	if r.instrs[i] {
		return
	}
	r.instrs[i] = true
	in := r.from.Instrs[i]
	in.Backward = true
	in.In = append([]ValueID(nil), in.In...)
	for j, v := range in.In {
		in.In[j] = r.fresh(v)
	}
	in.Out = append([]ValueID(nil), in.Out...)
	for j, v := range in.Out {
		if v < 0 {
			continue
		}
		if in.Outs[j].Keep {
			in.Out[j] = -1
			continue
		}
		in.Out[j] = r.to.addValue(r.from.Values[v])
		r.copies[v] = in.Out[j]
	}
	r.to.append(in)
}
