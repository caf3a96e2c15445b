package experiments

import (
	"fmt"
	"math"
	"slices"
	"strings"

	"jambalaya/data/recall"
)

// Results are what a grid has measured so far.
type Results struct {
	Grid   *Grid
	Cells  map[*Cell]*Result
	Failed map[*Cell]error
	Costs  map[*Arm]*Costs
	Out    string
	Jobs   int
}

// metric is a number that each cell has.
type metric struct {
	key, name string
	lower     bool // is better
	percent   bool
	of        func(*Result) float64
}

func (m metric) format(x float64) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case m.percent:
		return fmt.Sprintf("%.1f%%", 100*x)
	}
	return fmt.Sprintf("%.4f", x)
}

// change writes a difference with its sign.
func (m metric) change(x float64) string {
	switch {
	case math.IsNaN(x):
		return "–"
	case math.Abs(x) < m.shown():
		return m.change0()
	case m.percent:
		return fmt.Sprintf("%+.1f", 100*x)
	}
	return fmt.Sprintf("%+.4f", x)
}

// change0 is a difference of nothing, which has no sign.
func (m metric) change0() string {
	if m.percent {
		return "0.0"
	}
	return "0.0000"
}

var (
	lossMetric = metric{key: "val_loss", name: "validation loss, nats a token", lower: true, of: func(r *Result) float64 { return float64(r.ValLoss) }}
	bitsMetric = metric{key: "bits_per_byte", name: "bits a byte", lower: true, of: func(r *Result) float64 { return float64(r.BitsPerByte) }}
)

// recallMetric is the mean accuracy over the lengths that keep says yes to; an empty
// task is all tasks.
func recallMetric(key, name string, task recall.Task, keep func(length int) bool) metric {
	return metric{key: key, name: name, percent: true, of: func(r *Result) float64 {
		sum, n := 0.0, 0
		for _, s := range r.Recall {
			if (task == "" || s.Task == string(task)) && keep(s.Length) {
				sum += float64(s.Accuracy)
				n++
			}
		}
		return sum / float64(n)
	}}
}

// trained reports whether a length is within those that the grid learns from.
func (s *Results) trained(length int) bool { return length <= slices.Max(s.Grid.Spec.Recall.Lengths) }

func (s *Results) beyond(length int) bool { return !s.trained(length) }

// recallMetrics are the means of each task, within and beyond the trained lengths.
func (s *Results) recallMetrics() []metric {
	spec := s.Grid.Spec.Recall
	if spec.Share == 0 {
		return nil
	}
	var all []metric
	for _, task := range recall.Tasks() {
		all = append(all, recallMetric("recall_"+string(task), string(task), task, s.trained))
	}
	if slices.ContainsFunc(spec.EvalLengths, s.beyond) {
		for _, task := range recall.Tasks() {
			all = append(all, recallMetric("recall_"+string(task)+"_beyond", string(task)+", longer", task, s.beyond))
		}
	}
	return all
}

// meanRecall is the mean over all tasks within the trained lengths.
func (s *Results) meanRecall() metric {
	return recallMetric("recall", "recall", "", s.trained)
}

// seeds are those of which every variant has a result.
func (s *Results) seeds() []uint64 {
	return slices.DeleteFunc(slices.Clone(s.Grid.Spec.Seeds), func(seed uint64) bool {
		return slices.ContainsFunc(s.Grid.Cells, func(c *Cell) bool { return c.Seed == seed && s.Cells[c] == nil })
	})
}

// of returns the result of a variant and seed, nil if there is none.
func (s *Results) of(a *Arm, seed uint64) *Result {
	for _, c := range s.Grid.Cells {
		if c.Arm == a && c.Seed == seed {
			return s.Cells[c]
		}
	}
	return nil
}

// compare sets the variants against the reference; false if no seed is complete.
func (s *Results) compare(m metric) (Comparison, bool) {
	seeds := s.seeds()
	if len(seeds) == 0 {
		return Comparison{}, false
	}
	values := make([][]float64, len(s.Grid.Arms))
	reference := 0
	for i, a := range s.Grid.Arms {
		for _, seed := range seeds {
			values[i] = append(values[i], m.of(s.of(a, seed)))
		}
		if a == s.Grid.Reference() {
			reference = i
		}
	}
	return Compare(values, reference), true
}

// shown is the smallest difference that the tables show. At the ends of a scale, where
// all runs have all answers right, noise is no measure of what a difference means.
func (m metric) shown() float64 {
	if m.percent {
		return 0.0005
	}
	return 0.00005
}

// judgement is what a difference amounts to.
func (s *Results) judgement(m metric, c Comparison, i int) string {
	switch {
	case s.Grid.Arms[i] == s.Grid.Reference():
		return "reference"
	case c.Tie(i), math.Abs(c.Diff[i]) < m.shown():
		return "tie"
	case (c.Diff[i] < 0) == m.lower:
		return "better"
	}
	return "worse"
}

// Verdict says in a few sentences what was found.
func (s *Results) Verdict() string {
	text := s.verdictOf(bitsMetric)
	if s.Grid.Spec.Recall.Share > 0 {
		text += " " + s.verdictOf(s.meanRecall())
	}
	return text
}

// verdictOf names the variants that do better or worse than the reference.
func (s *Results) verdictOf(m metric) string {
	c, ok := s.compare(m)
	if !ok {
		return "No seed has all variants yet: nothing can be compared."
	}
	groups := map[string][]string{}
	best := 0
	for i, a := range s.Grid.Arms {
		j := s.judgement(m, c, i)
		groups[j] = append(groups[j], a.Name)
		if c.Mean[i] != c.Mean[best] && (c.Mean[i] < c.Mean[best]) == m.lower {
			best = i
		}
	}
	text := fmt.Sprintf("In %s, %s has the best mean, %s.", m.name, s.Grid.Arms[best].Name, m.format(c.Mean[best]))
	if math.IsNaN(c.Half) {
		return text + " With one seed or one variant nothing can be said about noise."
	}
	for _, g := range []struct{ key, says string }{
		{"better", "better than"}, {"tie", "tied with"}, {"worse", "worse than"},
	} {
		if names := groups[g.key]; len(names) > 0 {
			text += fmt.Sprintf(" %s %s %s %s.", join(names), plural(len(names), "is", "are"), g.says, s.Grid.Spec.Reference)
		}
	}
	return text
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// join lists names: a, b and c.
func join(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
