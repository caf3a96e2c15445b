package trainer

import (
	"context"
	"errors"

	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/parallel"
)

// gradients adds the gradient of a step up over the ranks, and over the parts that this
// rank computes where they have a tree. Its buckets leave while the backward pass of the
// last micro-batch goes on.
type gradients struct {
	flat     hostBuffer // the gradient
	buckets  []bucket
	of       []int                // bucket of each parameter, -1 for one that no other rank has
	reducers [2]*parallel.Reducer // of dense parameters and of experts; nil where nobody else has them
	zero1    bool
	parts    int              // of the gradient that this rank adds up in trees; 1: nothing to add up
	trees    []*model.TreeSum // of each bucket, then of the regions that no other rank has

	armed   bool // the gradients that become final now are those of the step
	pending []int
	err     error // of what a hook did
}

// bucket is a stretch of whole parameters that is reduced at a time.
type bucket struct {
	model.Span
	reducer int
	number  int // in the reducer
	params  int
	own     model.Span // the part of which the sum is wanted

	onDevice bool // the group sums it where it lies
}

// newGradients makes the buckets, of at least limit elements, and follows the plan's
// gradients. With more than one part the plan, in each run, computes those of one.
func newGradients(be engine.Backend, w *model.Weights, s *shard, g *model.TrainingGraph, plan *engine.Plan, limit, parts int) (*gradients, error) {
	r := &gradients{flat: newHostBuffer(be, w, w.Grad), of: make([]int, len(w.Params)), zero1: s.zero1, parts: parts}
	for i := range r.of {
		r.of[i] = -1
	}
	for kind := range r.reducers {
		var buckets []parallel.Bucket
		var group parallel.Group
		for i := range s.regions {
			if region := &s.regions[i]; region.Expert == (kind == 1) && region.group.Size() > 1 {
				group = region.group
				buckets = r.cut(region, kind, limit, buckets)
			}
		}
		if len(buckets) > 0 {
			r.reducers[kind] = parallel.NewReducer(group, buckets)
		}
	}
	r.pending = make([]int, len(r.buckets))
	for i, v := range g.Grads {
		if b := r.of[i]; b >= 0 {
			plan.OnReady(v, func() { r.final(b) })
		}
	}
	return r, r.plant(s)
}

// plant makes the trees.
func (r *gradients) plant(s *shard) error {
	var spans []model.Span
	var expert []bool
	for _, b := range r.buckets {
		spans, expert = append(spans, b.Span), append(expert, b.reducer == 1)
	}
	for _, region := range s.regions {
		if region.group.Size() == 1 && region.Len() > 0 {
			spans, expert = append(spans, region.Span), append(expert, region.Expert)
		}
	}
	shared := s.layout.Shared() != model.ExpertRange{}
	for i, span := range spans {
		parts := r.parts
		if expert[i] && shared { // model.Exchange adds them up
			parts = 1
		}
		t, err := model.NewTreeSum(r.flat.backend, r.flat.weights.Part(r.flat.flat, span), parts)
		if err != nil {
			return err
		}
		r.trees = append(r.trees, t)
	}
	return nil
}

// add adds the part that micro-batch i has computed to the others. In the last one the
// buckets have done so, and are on their way.
func (r *gradients) add(i int) error {
	trees := r.trees
	if r.armed {
		trees = trees[len(r.buckets):]
	}
	for _, t := range trees {
		if err := t.Add(i); err != nil {
			return err
		}
	}
	return nil
}

// cut adds the buckets of a region to those of a reducer.
func (r *gradients) cut(region *sharedRegion, kind, limit int, buckets []parallel.Bucket) []parallel.Bucket {
	from, at := region.From, 0
	for _, n := range parallel.Buckets(region.Sizes, limit) {
		b := bucket{Span: model.Span{From: from, To: from}, reducer: kind, number: len(buckets), params: n}
		for range n {
			r.of[region.Params[at]] = len(r.buckets)
			b.To += region.Sizes[at]
			at++
		}
		b.own = b.Span
		var reduced parallel.Bucket
		if _, b.onDevice = region.group.(parallel.TensorGroup); b.onDevice {
			reduced.Tensor = r.flat.weights.Part(r.flat.flat, b.Span)
		} else {
			reduced.Data = r.flat.host(b.Span)
		}
		if r.zero1 {
			reduced.Counts = parallel.Span{Lo: b.From, Hi: b.To}.Counts(region.shares)
			b.own = b.And(region.own())
		}
		buckets = append(buckets, reduced)
		r.buckets = append(r.buckets, b)
		from = b.To
	}
	return buckets
}

// begin makes the gradients that become final from now on those of the step.
func (r *gradients) begin(ctx context.Context, step int64) {
	r.armed, r.err = true, nil
	for i, b := range r.buckets {
		r.pending[i] = b.params
	}
	_ = r.each(func(d *parallel.Reducer) error { d.Begin(ctx, step); return nil })
}

// each calls f for the reducers that there are, until one fails.
func (r *gradients) each(f func(*parallel.Reducer) error) error {
	for _, d := range r.reducers {
		if d != nil {
			if err := f(d); err != nil {
				return err
			}
		}
	}
	return nil
}

// final is called when the gradient of a parameter of a bucket has been computed.
func (r *gradients) final(i int) {
	if !r.armed {
		return
	}
	if r.pending[i]--; r.pending[i] > 0 {
		return
	}
	b := &r.buckets[i]
	err := r.trees[i].Add(r.parts - 1)
	if !b.onDevice {
		err = errors.Join(err, r.flat.fetch(b.Span))
	}
	if r.err == nil {
		r.err = err // the other ranks wait for the bucket, so it goes all the same
	}
	r.reducers[b.reducer].Ready(b.number)
}

// wait returns when the step's gradient is summed.
func (r *gradients) wait() error {
	r.armed = false
	if err := r.each((*parallel.Reducer).Wait); err != nil {
		return err
	}
	if r.err != nil {
		return r.err
	}
	for i := range r.buckets {
		if b := &r.buckets[i]; !b.onDevice {
			if err := r.flat.store(b.own); err != nil {
				return err
			}
		}
	}
	return nil
}

// abandon ends a step that has failed.
func (r *gradients) abandon(err error) {
	r.armed = false
	_ = r.each(func(d *parallel.Reducer) error { d.Abandon(err); return nil })
}

// close frees the trees.
func (r *gradients) close() {
	for _, t := range r.trees {
		t.Close()
	}
}

// bytes is the memory of the trees.
func (r *gradients) bytes() int64 {
	n := int64(0)
	for _, t := range r.trees {
		n += t.Bytes()
	}
	return n
}

// times is what the reductions took so far.
func (r *gradients) times() parallel.Times {
	var sum parallel.Times
	_ = r.each(func(d *parallel.Reducer) error {
		sum.Busy += d.Times().Busy
		sum.Blocked += d.Times().Blocked
		return nil
	})
	return sum
}

// gatherWeights gives every rank the weights that the others have updated: with
// ZeRO-1 each updates its share.
func gatherWeights(ctx context.Context, be engine.Backend, w *model.Weights, s *shard, step int64) error {
	flat := newHostBuffer(be, w, w.Value)
	for i := range s.regions {
		r := &s.regions[i]
		if r.group.Size() == 1 || r.Len() == 0 {
			continue
		}
		op, counts := parallel.Op{Step: step, Name: "weights"}, parallel.Span{Lo: r.From, Hi: r.To}.Counts(r.shares)
		if g, ok := r.group.(parallel.TensorGroup); ok {
			if err := g.AllGatherTensor(ctx, op, 0, w.Part(w.Value, r.Span), counts); err != nil {
				return err
			}
			if _, err := g.Finish(ctx, op); err != nil {
				return err
			}
			continue
		}
		if err := flat.fetch(r.own()); err != nil {
			return err
		}
		if err := parallel.AllGather(ctx, r.group, op, flat.host(r.Span), counts); err != nil {
			return err
		}
		if err := flat.store(r.Span); err != nil {
			return err
		}
	}
	return w.Refresh()
}

// hostBuffer is a flat buffer as the host sees it: its own memory where it can be,
// else a copy.
type hostBuffer struct {
	backend engine.Backend
	weights *model.Weights
	flat    *engine.Tensor
	floats  []float32 // nil: nobody has asked for the copy
	copied  bool
}

func newHostBuffer(be engine.Backend, w *model.Weights, flat *engine.Tensor) hostBuffer {
	b := hostBuffer{backend: be, weights: w, flat: flat}
	if h, ok := be.(engine.HostMemory); ok {
		b.floats = h.Floats(flat)
	} else {
		b.copied = true
	}
	return b
}

// host is a part of the buffer, as last fetched.
func (b *hostBuffer) host(s model.Span) []float32 {
	if b.floats == nil {
		b.floats = make([]float32, b.flat.Size())
	}
	return b.floats[s.From:s.To]
}

// fetch brings a part up to date, store writes it back.
func (b *hostBuffer) fetch(s model.Span) error {
	if !b.copied || s.Len() == 0 {
		return nil
	}
	return b.backend.Read(b.host(s), b.weights.Part(b.flat, s))
}

func (b *hostBuffer) store(s model.Span) error {
	if !b.copied || s.Len() == 0 {
		return nil
	}
	return b.backend.Write(b.weights.Part(b.flat, s), b.host(s))
}
