package trainer

import "jambalaya/model"

// squares are the sums of squares of which the gradient's norm is made: those of this
// rank's share, each in its place among those of all ranks.
type squares struct {
	of     []model.Span // what this rank sums; none: no tensor is its own
	places []int        // of each
	all    []float64    // 0 but for this rank's
}

// newSquares sums a rank's share in one go, all of them in one place; with each, every
// tensor of every expert has a place of its own, and no order depends on who owns it.
func newSquares(s *shard, each bool) squares {
	if !each {
		own := s.own()
		return squares{own, make([]int, len(own)), make([]float64, 1)}
	}
	var q squares
	for i, p := range s.layout.Params {
		at, first, parts, places := s.layout.At(i), 0, 1, 1
		if p.Expert {
			first, parts, places = s.layout.Experts.Lo, p.Shape[0], s.layout.Config.NumExperts
		}
		size := p.Size() / parts
		for part := 0; part < parts && s.owns(i); part++ {
			q.of = append(q.of, model.Span{From: at.From + part*size, To: at.From + (part+1)*size})
			q.places = append(q.places, len(q.all)+first+part)
		}
		q.all = append(q.all, make([]float64, places)...)
	}
	return q
}

// place puts the sums that this rank has computed in their places.
func (q *squares) place(mine []float32) []float64 {
	clear(q.all)
	for i, x := range mine {
		q.all[q.places[i]] += float64(x)
	}
	return q.all
}
