package model

// ExpertRange is a range [Lo, Hi) of the experts of every MoE layer. The zero value
// stands for all of them.
type ExpertRange struct{ Lo, Hi int }

// of returns the range with the zero value resolved.
func (x ExpertRange) of(experts int) ExpertRange {
	if x == (ExpertRange{}) {
		return ExpertRange{0, experts}
	}
	return x
}

// heldParams are the parameters with the shapes that they have where some experts are
// held.
func (c Config) heldParams(held ExpertRange) []Param {
	params, x := c.Params(), held.of(c.NumExperts)
	for i := range params {
		if p := &params[i]; p.Expert {
			p.Shape = append([]int{x.Hi - x.Lo}, p.Shape[1:]...)
		}
	}
	return params
}

// Span is a range [From, To) of elements of a flat buffer.
type Span struct{ From, To int }

// Len is the number of elements.
func (s Span) Len() int { return s.To - s.From }

// And is the common part, which may be empty.
func (s Span) And(o Span) Span {
	from := max(s.From, o.From)
	return Span{from, max(from, min(s.To, o.To))}
}

// MergeSpans drops empty spans and joins those that touch. The spans are in order.
func MergeSpans(spans []Span) []Span {
	var merged []Span
	for _, s := range spans {
		if n := len(merged); s.Len() == 0 {
			continue
		} else if n > 0 && merged[n-1].To == s.From {
			merged[n-1].To = s.To
		} else {
			merged = append(merged, s)
		}
	}
	return merged
}

// Layout says where the parameters of a model, or of a rank's part of one, lie in a
// flat buffer. The order is that in which the backward pass finishes the gradients,
// in three regions: what weight decay applies to, the experts, and what it spares.
// So whatever works on many parameters at once, the optimiser, a reduction between
// ranks, works on a few long ranges.
type Layout struct {
	Config  Config
	Experts ExpertRange // held here
	Params  []Param     // with the shapes that they have here
	Regions []Region
	Size    int // elements, padding included

	order   []int // parameters as they lie in the buffer
	offsets []int // of each parameter
}

// Shared is Experts where other ranks hold the others, and zero where all are here: as
// graphs take it.
func (l *Layout) Shared() ExpertRange {
	if x := l.Experts; x.Hi-x.Lo < l.Config.NumExperts {
		return x
	}
	return ExpertRange{}
}

// Region is a stretch of the flat buffers that is treated alike.
type Region struct {
	Span
	Expert bool  // sharded by expert
	Params []int // as they lie in it
	Sizes  []int // elements that each takes, padding included
}

// paramAlign keeps every parameter on a cache line and a vector's width.
const paramAlign = 64

// NewLayout lays out a model of which some experts are held.
func NewLayout(cfg Config, held ExpertRange) *Layout {
	l := &Layout{Config: cfg, Experts: held.of(cfg.NumExperts), Params: cfg.heldParams(held)}
	l.offsets = make([]int, len(l.Params))
	for group := 0; group < 3; group++ {
		r := Region{Span: Span{l.Size, l.Size}, Expert: group == 1}
		for i := len(l.Params) - 1; i >= 0; i-- {
			if p := l.Params[i]; p.group() == group {
				l.order, l.offsets[i] = append(l.order, i), r.To
				r.Params, r.Sizes = append(r.Params, i), append(r.Sizes, p.paddedSize())
				r.To += p.paddedSize()
			}
		}
		l.Size = r.To
		l.Regions = append(l.Regions, r)
	}
	return l
}

func (p Param) paddedSize() int { return (p.Size() + paramAlign - 1) / paramAlign * paramAlign }

func (p Param) group() int {
	switch {
	case p.NoDecay:
		return 2
	case p.Expert:
		return 1
	}
	return 0
}

// All is the span of the whole buffer.
func (l *Layout) All() Span { return Span{0, l.Size} }

// At is the span of parameter i, padding included.
func (l *Layout) At(i int) Span { return Span{l.offsets[i], l.offsets[i] + l.Params[i].paddedSize()} }

// decaySpan is a part of the flat buffers that weight decay treats alike.
type decaySpan struct {
	Span
	decays bool
}

// decaySpans cuts the flat buffers where decays changes its mind. Padding between
// parameters is zero and stays so.
func (l *Layout) decaySpans(decays func(Param) bool) []decaySpan {
	var all []decaySpan
	for _, i := range l.order {
		d := decays(l.Params[i])
		if n := len(all); n > 0 && all[n-1].decays == d {
			all[n-1].To = l.At(i).To
		} else {
			all = append(all, decaySpan{l.At(i), d})
		}
	}
	return all
}
