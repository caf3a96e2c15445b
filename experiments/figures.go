package experiments

import (
	"fmt"
	"math"
	"path/filepath"
	"slices"

	"jambalaya/data/recall"
	"jambalaya/experiments/chart"
	"jambalaya/internal/human"
	"jambalaya/trainer/report"
)

// lossCurves shows the validation loss on the way, a band of one deviation between
// seeds around each mean.
func (s *Results) lossCurves() (figure, error) {
	c := chart.Chart{Title: "Validation loss in training", X: chart.Axis{Label: "step"}, Y: chart.Axis{Label: "bits a byte", Log: true}}
	for i, a := range s.Grid.Arms {
		bySteps := map[int64][]float64{}
		runs := 0
		for _, cell := range s.Grid.Cells {
			if cell.Arm != a || s.Cells[cell] == nil {
				continue
			}
			lines, err := report.ReadMetrics(filepath.Join(s.Out, cellsDir, cell.Name, metricsFile))
			if err != nil {
				return figure{}, err
			}
			runs++
			for _, l := range lines {
				if l.Validation != nil && l.Step > 0 { // the first, of weights as drawn, would hide the rest
					bySteps[l.Step] = append(bySteps[l.Step], float64(l.BitsPerByte))
				}
			}
		}
		series := chart.Series{Name: a.Name, Colour: i, Line: true, Band: true}
		for step, values := range bySteps {
			if len(values) < runs {
				continue
			}
			m, d := mean(values), deviation(values)
			if math.IsNaN(d) {
				d = 0
			}
			series.Points = append(series.Points, chart.Point{X: float64(step), Y: m, Low: m - d, High: m + d})
		}
		slices.SortFunc(series.Points, func(p, q chart.Point) int { return int(p.X - q.X) })
		c.Series = append(c.Series, series)
	}
	return figure{"loss", c.SVG(), "Held-out text, mean over seeds; bands are one standard deviation between seeds. Logarithmic."}, nil
}

// categories are the variants, with their share of attention layers below.
func (s *Results) categories() []string {
	var all []string
	for _, a := range s.Grid.Arms {
		all = append(all, fmt.Sprintf("%s\n%d of %d", a.Name, a.Cost.AttentionLayers, a.Cost.Layers))
	}
	return all
}

// dots is a series of means with 95% intervals of each variant's own mean, from the
// noise of all.
func (s *Results) dots(m metric, name string, colour int, shift float64) chart.Series {
	series := chart.Series{Name: name, Colour: colour, Marks: true, Bars: true, Line: true, Dashed: true}
	c, ok := s.compare(m)
	if !ok {
		return series
	}
	half := c.Half / math.Sqrt2 // of one mean, not of a difference of two
	if math.IsNaN(half) {
		half = 0
	}
	for i, y := range c.Mean {
		low, high := y-half, y+half
		if m.percent {
			low, high = max(0, low), min(1, high)
		}
		series.Points = append(series.Points, chart.Point{X: float64(i) + shift, Y: y, Low: low, High: high,
			Note: fmt.Sprintf("%s ± %s", m.format(y), m.format(half))})
	}
	return series
}

func percent(x float64) string { return fmt.Sprintf("%.0f%%", 100*x) }

const variantAxis = "variant, attention layers below"

func (s *Results) lossByVariant() figure {
	c := chart.Chart{Title: "Loss by variant", X: chart.Axis{Label: variantAxis, Categories: s.categories()}, Y: chart.Axis{Label: "bits a byte"},
		Series: []chart.Series{s.dots(bitsMetric, "", 0, 0)}}
	return figure{"variants-loss", c.SVG(), "Bits a byte of held-out text at the end. Bars are 95% intervals from the noise of all cells, seeds paired: " +
		"where two bars overlap far, the variants tie."}
}

func (s *Results) recallByVariant() figure {
	c := chart.Chart{Title: "Recall by variant", X: chart.Axis{Label: variantAxis, Categories: s.categories()},
		Y: chart.Axis{Label: "answers right", Zero: true, Format: percent}}
	for i, task := range recall.Tasks() {
		c.Series = append(c.Series, s.dots(recallMetric("", "", task, s.trained), string(task), i, 0.09*float64(i-1)))
	}
	c.Guides = []chart.Guide{{Y: recall.MQAR.Chance(), Label: "chance"}}
	return figure{"variants-recall", c.SVG(), fmt.Sprintf("Mean accuracy at the trained lengths (up to %d tokens); 95%% intervals as in the loss. Chance is that of mqar and copying; of induction it is %s.",
		slices.Max(s.Grid.Spec.Recall.Lengths), percent(recall.Induction.Chance()))}
}

func (s *Results) recallByLength(task recall.Task) figure {
	lengths := s.Grid.Spec.Recall.EvalLengths
	ticks := make([]float64, len(lengths))
	for i, n := range lengths {
		ticks[i] = float64(n)
	}
	c := chart.Chart{Title: fmt.Sprintf("%s by length", task), X: chart.Axis{Label: "tokens of the problem", Log: true, Ticks: ticks},
		Y: chart.Axis{Label: "answers right", Zero: true, Format: percent}, Guides: []chart.Guide{{Y: task.Chance(), Label: "chance"}}}
	for i, a := range s.Grid.Arms {
		series := chart.Series{Name: a.Name, Colour: i, Line: true, Marks: true, Bars: true}
		for _, n := range lengths {
			values := s.valuesOf(a, recallMetric("", "", task, func(length int) bool { return length == n }))
			if len(values) == 0 {
				continue
			}
			p := chart.Point{X: float64(n), Y: mean(values), Low: slices.Min(values), High: slices.Max(values)}
			p.Note = fmt.Sprintf("seeds from %s to %s", percent(p.Low), percent(p.High))
			series.Points = append(series.Points, p)
		}
		c.Series = append(c.Series, series)
	}
	return figure{"recall-" + string(task), c.SVG(), fmt.Sprintf("Mean over seeds, bars from the worst seed to the best. Trained up to %d tokens.", slices.Max(s.Grid.Spec.Recall.Lengths))}
}

// valuesOf are a variant's values over the seeds that it has.
func (s *Results) valuesOf(a *Arm, m metric) []float64 {
	var values []float64
	for _, seed := range s.Grid.Spec.Seeds {
		if r := s.of(a, seed); r != nil {
			values = append(values, m.of(r))
		}
	}
	return values
}

func bytesLabel(x float64) string { return human.Bytes(int64(x)) }

func (s *Results) cacheByContext() figure {
	contexts := []float64{}
	for n := 1024; n <= slices.Max(s.Grid.Spec.Contexts); n *= 4 {
		contexts = append(contexts, float64(n))
	}
	c := chart.Chart{Title: "Cache of one sequence", Y: chart.Axis{Label: "fp32", Log: true, Binary: true, Format: bytesLabel},
		X: chart.Axis{Label: "context, tokens", Log: true, Ticks: contexts, Format: func(x float64) string { return fmt.Sprintf("%gK", x/1024) }}}
	for i, a := range s.Grid.Arms {
		series := chart.Series{Name: a.Name, Colour: i, Line: true, Marks: true}
		for _, n := range contexts {
			size := CacheOf(a.Config.Model, int(n)).Total()
			series.Points = append(series.Points, chart.Point{X: n, Y: float64(size)})
		}
		c.Series = append(c.Series, series)
	}
	caption := "Keys and values, convolution and scan states, counted from the configuration."
	if len(s.Costs) == len(s.Grid.Arms) {
		caption += " The generator's own count is the same." // Grid.costs has compared them
	}
	return figure{"cache", c.SVG(), caption}
}

// pareto plots quality against a cost that falls to the left, and joins the variants
// that no other beats in both.
func (s *Results) pareto(name, title string, m metric, x chart.Axis, cost func(*Arm) float64, caption string) figure {
	c := chart.Chart{Title: title, X: x, Y: chart.Axis{Label: m.name}}
	if m.percent {
		c.Y.Label, c.Y.Format, c.Y.Zero = "answers right, all tasks", percent, true
	}
	comparison, ok := s.compare(m)
	var front []chart.Point
	for i, a := range s.Grid.Arms {
		if !ok {
			continue
		}
		p := chart.Point{X: cost(a), Y: comparison.Mean[i], Label: a.Name, Note: m.format(comparison.Mean[i])}
		c.Series = append(c.Series, chart.Series{Colour: i, Marks: true, Points: []chart.Point{p}})
		front = append(front, chart.Point{X: p.X, Y: p.Y})
	}
	c.Series = append([]chart.Series{{Colour: 6, Line: true, Dashed: true, Points: paretoFront(front, m.lower)}}, c.Series...)
	return figure{name, c.SVG(), caption}
}

// paretoFront returns the points that no other is at least as good as in both, in
// the order of X, of which less is better.
func paretoFront(points []chart.Point, lower bool) []chart.Point {
	better := func(a, b float64) bool { return a != b && (a < b) == lower }
	sorted := slices.SortedFunc(slices.Values(points), func(p, q chart.Point) int {
		if p.X != q.X {
			return map[bool]int{true: -1, false: 1}[p.X < q.X]
		}
		return map[bool]int{true: -1, false: 1}[better(p.Y, q.Y)]
	})
	var front []chart.Point
	for _, p := range sorted {
		if len(front) == 0 || better(p.Y, front[len(front)-1].Y) {
			front = append(front, p)
		}
	}
	return front
}
