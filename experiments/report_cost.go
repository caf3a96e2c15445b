package experiments

import (
	"fmt"

	"jambalaya/experiments/chart"
	"jambalaya/internal/human"
)

// sizeTable has what the configurations say.
func (s *Results) sizeTable() *grid {
	t := &grid{Head: []string{"variant", "parameters", "active", "FLOPs a token", "feed-forward width", "match"}, Left: 1}
	for i, a := range s.Grid.Arms {
		match := fmt.Sprintf("%+.2f%%", 100*a.Match)
		if s.Grid.Spec.Match.By == MatchNone || a == s.Grid.Reference() {
			match = "–"
		}
		row := []string{a.Name, human.Count(float64(a.Cost.Parameters)), human.Count(float64(a.Cost.Active)), human.Count(a.Cost.FLOPs.Forward()),
			fmt.Sprint(a.Config.Model.IntermediateSize), match}
		t.add(row...)
		t.note(i, 1, fmt.Sprint(a.Cost.Parameters))
		t.note(i, 2, fmt.Sprint(a.Cost.Active))
		f := a.Cost.FLOPs
		t.note(i, 3, fmt.Sprintf("forward: products %.4g, attention %.4g, scan %.4g, convolution %.4g", f.MatMul, f.Attention, f.Scan, f.Conv))
	}
	return t
}

// cacheTable has the states of one sequence, in all and by what they hold.
func (s *Results) cacheTable() *grid {
	t := &grid{Head: []string{"cache of one sequence"}, Left: 1}
	for _, n := range s.Grid.Spec.Contexts {
		t.Head = append(t.Head, "at "+contextName(n))
	}
	for _, n := range s.Grid.Spec.Contexts {
		t.Head = append(t.Head, "keys and values at "+contextName(n))
	}
	t.Head = append(t.Head, "convolution", "scan")
	for i, a := range s.Grid.Arms {
		row := []string{a.Name}
		for j, c := range a.Cost.Cache {
			row = append(row, human.Bytes(c.Total()))
			t.note(i, 1+j, fmt.Sprintf("%d bytes", c.Total()))
		}
		for _, c := range a.Cost.Cache {
			row = append(row, human.Bytes(c.KeysValues))
		}
		c := a.Cost.Cache[0] // these do not grow
		t.add(append(row, human.Bytes(c.Conv), human.Bytes(c.Scan))...)
	}
	return t
}

func contextName(n int) string {
	if n%1024 == 0 {
		return fmt.Sprintf("%dK", n/1024)
	}
	return fmt.Sprint(n)
}

// speedTable has what was measured.
func (s *Results) speedTable() *grid {
	t := &grid{Head: []string{"variant", "training, tokens/s alone", "training, tokens/s in the grid", "decoding, tokens/s", "memory of a training step, planned", "peak", "device"}, Left: 1}
	for _, a := range s.Grid.Arms {
		rate := "–"
		if values := s.valuesOf(a, ratesMetric); len(values) > 0 {
			rate = human.Count(mean(values))
		}
		k := s.Costs[a]
		if k == nil {
			t.add(a.Name, "–", rate, "–", "–", "–", "–")
			continue
		}
		peak := "–"
		if k.PeakMemory > 0 {
			peak = human.Bytes(k.PeakMemory)
		}
		device := k.Device
		if device == "cpu" {
			device += fmt.Sprintf(", %d %s", k.Threads, plural(k.Threads, "thread", "threads"))
		}
		t.add(a.Name, human.Count(float64(k.TrainTokensPerS)), rate, human.Count(float64(k.DecodeTokensPerS)),
			human.Bytes(k.PlannedMemory), peak, device)
	}
	return t
}

var ratesMetric = metric{of: func(r *Result) float64 { return float64(r.TokensPerS) }}

func (s *Results) costFigures() []figure {
	all := []figure{s.cacheByContext()}
	training, how := func(a *Arm) float64 { return 1e6 / float64(s.Costs[a].TrainTokensPerS) }, "alone"
	if len(s.Costs) < len(s.Grid.Arms) {
		training, how = func(a *Arm) float64 { return 1e6 / mean(s.valuesOf(a, ratesMetric)) }, "in the grid"
	}
	all = append(all, s.pareto("pareto-loss", "Loss against the cost of training", bitsMetric, chart.Axis{Label: "microseconds of training a token, " + how}, training,
		"Lower and further left is better; the dashed line joins the variants that no other beats in both."))
	middle := len(s.Grid.Spec.Contexts) / 2
	context := chart.Axis{Label: fmt.Sprintf("cache at %s tokens", contextName(s.Grid.Spec.Contexts[middle])), Log: true, Binary: true, Format: bytesLabel}
	cache := func(a *Arm) float64 { return float64(a.Cost.Cache[middle].Total()) }
	all = append(all, s.pareto("pareto-cache", "Loss against the cost of a context", bitsMetric, context, cache,
		"Lower and further left is better; the dashed line joins the variants that no other beats in both."))
	if s.Grid.Spec.Recall.Share > 0 {
		all = append(all, s.pareto("pareto-recall", "Recall against the cost of a context", s.meanRecall(), context, cache,
			"Higher and further left is better; the dashed line joins the variants that no other beats in both."))
	}
	return all
}
