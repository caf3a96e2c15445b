package experiments

import (
	"fmt"
	"math"

	"jambalaya/model"
	"jambalaya/trainer"
)

// measureOf is the size that is matched.
func measureOf(by string, cfg trainer.Config) float64 {
	switch by {
	case MatchActive:
		return float64(cfg.Model.Counts().Active)
	case MatchFLOPs:
		return cfg.Model.FLOPs(cfg.Data.SequenceLength).Forward()
	}
	return float64(cfg.Model.Counts().Total)
}

// match sets the width of the feed-forwards such that the arm's size is the
// reference's. A multiple of 16 or 4 is preferred where it is close enough: kernels
// are at their best on these.
func (a *Arm) match(m Match, reference *Arm) error {
	if m.By == MatchNone || a == reference {
		return nil
	}
	target := measureOf(m.By, reference.Config)
	size := func(width int) float64 {
		cfg := a.Config
		cfg.Model.IntermediateSize = width
		return measureOf(m.By, cfg)
	}
	best := 0
	for _, multiple := range []int{16, 4, 1} {
		best = nearestWidth(size, target, multiple)
		if a.Match = size(best)/target - 1; math.Abs(a.Match) <= m.Tolerance {
			a.Config.Model.IntermediateSize = best
			return a.Config.Validate()
		}
	}
	return fmt.Errorf("%w: variant %s: no model.intermediate_size brings its %s within %.3g%% of %s's %.6g: the nearest, %d, has %.6g (%+.2f%%); "+
		"change its layers, or match.tolerance, or set match.by to none",
		ErrGrid, a.Name, m.By, 100*m.Tolerance, reference.Name, target, best, size(best), 100*a.Match)
}

// maxWidth is the largest intermediate_size that is tried.
const maxWidth = 1 << 18

// nearestWidth returns the multiple whose size, which grows with it, is nearest to
// the target.
func nearestWidth(size func(int) float64, target float64, multiple int) int {
	low, high := 1, maxWidth/multiple // the first of at least the target is in [low, high]
	for low < high {
		if middle := (low + high) / 2; size(middle*multiple) < target {
			low = middle + 1
		} else {
			high = middle
		}
	}
	width := low * multiple
	if low > 1 && target-size(width-multiple) <= size(width)-target {
		width -= multiple
	}
	return width
}

// Cost is what a variant costs, by its configuration alone.
type Cost struct {
	Parameters, Active int64
	FLOPs              model.FLOPs // of a token, forward, in a sequence of the training's length
	AttentionLayers    int
	Layers             int
	Cache              []Cache // at each of Spec.Contexts
}

// Cache is the memory of one sequence's states in bytes, in fp32 as the generator
// keeps them.
type Cache struct {
	Context    int // tokens
	KeysValues int64
	Conv, Scan int64
}

// Total is the sum of all parts.
func (c Cache) Total() int64 { return c.KeysValues + c.Conv + c.Scan }

func costOf(cfg trainer.Config, contexts []int) Cost {
	counts := cfg.Model.Counts()
	c := Cost{Parameters: counts.Total, Active: counts.Active, FLOPs: cfg.Model.FLOPs(cfg.Data.SequenceLength), Layers: cfg.Model.NumHiddenLayers}
	for _, kind := range cfg.Model.LayerKinds() {
		if kind.Mixer == model.AttentionMixer {
			c.AttentionLayers++
		}
	}
	for _, n := range contexts {
		c.Cache = append(c.Cache, CacheOf(cfg.Model, n))
	}
	return c
}

// CacheOf counts the states of a sequence of so many tokens.
func CacheOf(m model.Config, context int) Cache {
	const element = 4
	c := Cache{Context: context}
	for _, kind := range m.LayerKinds() {
		if kind.Mixer == model.AttentionMixer {
			c.KeysValues += 2 * element * int64(context) * int64(m.KeyValueHeads()*m.HeadDim())
			continue
		}
		c.Conv += element * int64(m.MambaDConv-1) * int64(m.InnerSize())
		c.Scan += element * int64(m.InnerSize()) * int64(m.MambaDState)
	}
	return c
}
