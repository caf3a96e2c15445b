package trainer

import (
	"jambalaya/model"
	"jambalaya/parallel"
)

// shard says what a rank holds of the model, and what of it is its own share: the
// part whose squares it adds up for the norm, whose state it keeps with ZeRO-1, and
// which it writes into checkpoints. The shares of all ranks cover everything once.
type shard struct {
	layout  *model.Layout
	regions []sharedRegion
	zero1   bool
	alone   bool
}

// sharedRegion is a region of the flat buffers with the ranks that hold the same.
type sharedRegion struct {
	model.Region
	group  parallel.Group
	shares []parallel.Span // by place in the group
}

func newShard(cfg Config, t *team) *shard {
	lo, hi := t.mesh.Experts(t.rank, cfg.Model.NumExperts)
	s := &shard{layout: model.NewLayout(cfg.Model, model.ExpertRange{Lo: lo, Hi: hi}), zero1: cfg.Parallel.Zero1 && t.size() > 1, alone: t.size() == 1}
	for _, r := range s.layout.Regions {
		group := t.dense
		if r.Expert {
			group = t.column
		}
		s.regions = append(s.regions, sharedRegion{r, group, parallel.Shares(r.From, s.pieces(r), group.Size())})
	}
	return s
}

// pieces are the sizes of what goes to one rank as a whole: tensors, and what all
// tensors of an expert layer are together, so that an expert is one file of a checkpoint.
func (s *shard) pieces(r model.Region) []int {
	if !r.Expert {
		return r.Sizes
	}
	var sizes []int
	layer := -1
	for i, param := range r.Params {
		if p := s.layout.Params[param]; p.Layer != layer {
			layer, sizes = p.Layer, append(sizes, 0)
		}
		sizes[len(sizes)-1] += r.Sizes[i]
	}
	return sizes
}

// own is this rank's share.
func (r *sharedRegion) own() model.Span {
	s := r.shares[r.group.Rank()]
	return model.Span{From: s.Lo, To: s.Hi}
}

// own is this rank's share of all regions.
func (s *shard) own() []model.Span {
	var all []model.Span
	for i := range s.regions {
		all = append(all, s.regions[i].own())
	}
	return model.MergeSpans(all)
}

// owns says whether parameter i is in this rank's share.
func (s *shard) owns(i int) bool {
	at := s.layout.At(i)
	for _, own := range s.own() {
		if at.From >= own.From && at.To <= own.To {
			return true
		}
	}
	return false
}

// states are the parts of the model whose moments this rank keeps.
func (s *shard) states() []model.Span {
	if s.zero1 {
		return s.own()
	}
	return []model.Span{s.layout.All()}
}
