package experiments

import (
	"fmt"
	"math"
	"slices"

	"jambalaya/data/recall"
)

// recallSection has the recall tasks, by variant and by length.
func (s *Results) recallSection(d *document) {
	d.heading("Recall")
	t := &grid{Head: []string{"variant"}, Left: 1}
	metrics := append([]metric{s.meanRecall()}, s.recallMetrics()...)
	for _, m := range metrics {
		t.Head = append(t.Head, m.name)
	}
	t.Head = append(t.Head, "difference in recall, points", "95% interval", "verdict")
	all, ok := s.compare(metrics[0])
	for i, a := range s.Grid.Arms {
		row := []string{a.Name}
		for j, m := range metrics {
			cell := "–"
			if values := s.valuesOf(a, m); len(values) > 0 {
				cell = m.format(mean(values))
				t.note(i, j+1, s.perSeed(a, m))
			}
			row = append(row, cell)
		}
		if ok {
			row = append(row, s.differenceCells(metrics[0], all, i)...)
		} else {
			row = append(row, "–", "–", "–")
		}
		t.add(row...)
	}
	d.table(t)
	spec := s.Grid.Spec.Recall
	d.text("Answers that the model ranks first, in %d problems of each task and length that no training data holds. Recall is the mean over tasks and trained lengths (up to %d tokens); \"longer\" are lengths beyond. "+
		"Chance is %.1f%% in mqar and copying and %.1f%% in induction; in mqar, to know which values there are but not whose gives one in the number of pairs (%d at %d tokens).",
		spec.Problems, slices.Max(spec.Lengths), 100*recall.MQAR.Chance(), 100*recall.Induction.Chance(), recall.Pairs(slices.Max(spec.Lengths)), slices.Max(spec.Lengths))
	d.table(s.taskTable())
	d.text("By task and by tokens of the problem; differences, intervals and verdicts are of the mean over the trained lengths.")
	figures := []figure{s.recallByVariant()}
	for _, task := range recall.Tasks() {
		figures = append(figures, s.recallByLength(task))
	}
	d.figures(figures...)
}

// taskTable has the accuracy in each task at each length, and compares the variants
// in each task.
func (s *Results) taskTable() *grid {
	t := &grid{Head: []string{"task", "variant"}, Left: 2}
	lengths := s.Grid.Spec.Recall.EvalLengths
	for _, n := range lengths {
		t.Head = append(t.Head, fmt.Sprintf("%d", n))
	}
	t.Head = append(t.Head, "trained lengths", "± between seeds", "difference, points", "95% interval", "verdict")
	for _, task := range recall.Tasks() {
		m := recallMetric("", "", task, s.trained)
		c, ok := s.compare(m)
		for i, a := range s.Grid.Arms {
			row := []string{string(task), a.Name}
			for j, n := range lengths {
				one := recallMetric("", "", task, func(length int) bool { return length == n })
				row = append(row, one.format(mean(s.valuesOf(a, one))))
				t.note(len(t.Rows), 2+j, s.perSeed(a, one))
			}
			if ok {
				row = append(row, m.format(c.Mean[i]), m.format(c.Deviation[i]))
				row = append(row, s.differenceCells(m, c, i)...)
			} else {
				row = append(row, "–", "–", "–", "–", "–")
			}
			t.note(len(t.Rows), 2+len(lengths), s.perSeed(a, m))
			t.add(row...)
		}
	}
	return t
}

// uneven warns where the variants' own noise differs so much that one interval for
// all is too wide for the steady ones and too narrow for the others.
func (s *Results) uneven() []string {
	const much = 4 // times the median variant's
	metrics := []metric{bitsMetric}
	if s.Grid.Spec.Recall.Share > 0 {
		metrics = append(metrics, s.meanRecall())
	}
	var all []string
	for _, m := range metrics {
		c, ok := s.compare(m)
		if !ok || math.IsNaN(c.Half) {
			continue
		}
		worst := 0
		for i := range c.Deviation {
			if c.Deviation[i] > c.Deviation[worst] {
				worst = i
			}
		}
		if typical := median(c.Deviation); c.Deviation[worst] > much*typical {
			all = append(all, fmt.Sprintf("In %s, %s differs between seeds by %s, the variants' median is %s: the common interval is too narrow for it and too wide for the others.",
				m.name, s.Grid.Arms[worst].Name, m.format(c.Deviation[worst]), m.format(typical)))
		}
	}
	return all
}
