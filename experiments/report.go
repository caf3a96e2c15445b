package experiments

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"jambalaya/internal/human"
)

// Files of a report in the grid's directory.
const (
	reportHTML  = "report.html"
	reportMD    = "report.md"
	resultsCSV  = "results.csv"
	resultsFile = "results.arrow"
	figuresDir  = "figures"
)

// writeReport writes the report and the tables behind it.
func writeReport(s *Results, out string) error {
	if err := s.writeTables(out); err != nil {
		return fmt.Errorf("results: %w", err)
	}
	d, err := s.document()
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	page, err := d.html()
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(out, figuresDir), 0o755); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	for _, b := range d.Blocks {
		for _, f := range b.Figures {
			err = errors.Join(err, writeFile(filepath.Join(out, figuresDir, f.Name+".svg"), []byte(f.SVG+"\n")))
		}
	}
	err = errors.Join(err, writeFile(filepath.Join(out, reportMD), d.markdown()), writeFile(filepath.Join(out, reportHTML), page))
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// document puts the report together.
func (s *Results) document() (*document, error) {
	d := &document{Title: s.Grid.Spec.Title, Lead: s.Verdict()}
	d.text("%s", s.setting())
	curves, err := s.lossCurves()
	if err != nil {
		return nil, err
	}
	d.heading("Loss")
	d.table(s.lossTable())
	d.text("%s", s.noise())
	d.figures(s.lossByVariant(), curves)
	if s.Grid.Spec.Recall.Share > 0 {
		s.recallSection(d)
	}
	d.heading("Cost")
	d.table(s.sizeTable())
	d.table(s.cacheTable())
	d.text("Caches are those of one sequence in fp32, as this version keeps them: keys and values grow with the context, the states of convolutions and scans do not.")
	d.table(s.speedTable())
	d.text("Decoding is that of one sequence, after %d tokens. The peak is that of the process; on a GPU, all that was taken of its memory, the driver's own included.", decodeContext)
	d.figures(s.costFigures()...)
	d.heading("Stability")
	d.table(s.stabilityTable())
	d.text("Spikes are losses more than 6 standard deviations above the 128 before. The largest gradient norm is that after the first tenth of the steps. Activations are those of the residual stream on held-out text.")
	d.heading("Runs")
	d.table(s.runTable())
	d.text("Every number above is computed from these runs: %s/NAME/%s and %s have what each measured, %s the measured costs, %s and %s one row a run.",
		cellsDir, metricsFile, resultFile, costsDir, resultsCSV, resultsFile)
	if paths := s.computedOn(); len(paths) > 0 {
		d.text("Computed on %s.", join(paths))
	}
	d.heading("What this does not show")
	d.list(s.caveats())
	return d, nil
}

// setting says what was run.
func (s *Results) setting() string {
	g := s.Grid
	cfg := g.Reference().Config
	steps := cfg.Trainer.Steps
	text := fmt.Sprintf("%d variants of %s, %d seeds each. A run takes %d steps of %d tokens, %s tokens in all, in sequences of %d.",
		len(g.Arms), g.Spec.Base, len(g.Spec.Seeds), steps, tokensPerStep(cfg), human.Count(float64(steps*tokensPerStep(cfg))), cfg.Data.SequenceLength)
	if g.Spec.Match.By != MatchNone {
		text += fmt.Sprintf(" Variants have the same %s as %s to within %.3g%%, by the width of their feed-forwards.", matchNames[g.Spec.Match.By], g.Spec.Reference, 100*g.Spec.Match.Tolerance)
	}
	if r := g.Spec.Recall; r.Share > 0 {
		text += fmt.Sprintf(" Of the samples, %.3g%% are recall problems of %s tokens; their loss counts at the answers alone. Losses are of held-out text alone.", 100*r.Share, join(texts(r.Lengths)))
	}
	return text + " All variants of a seed see the same samples in the same order."
}

var matchNames = map[string]string{MatchParameters: "number of parameters", MatchActive: "number of active parameters", MatchFLOPs: "FLOPs a token"}

func texts(numbers []int) []string {
	var all []string
	for _, n := range numbers {
		all = append(all, fmt.Sprint(n))
	}
	return all
}

// noise says how large differences have to be.
func (s *Results) noise() string {
	c, ok := s.compare(bitsMetric)
	if !ok {
		return "No seed has all variants: nothing is compared."
	}
	if math.IsNaN(c.Half) {
		return "With one seed or one variant there is no estimate of the noise, and so no interval."
	}
	return fmt.Sprintf("Noise: two runs that differ in nothing but the seed differ by a standard deviation of %.4f bits a byte (pooled over variants), of %.4f with seeds paired. "+
		"A difference between two variants is told from noise, at 95%%, when it is above %.4f. A difference whose interval holds zero is called a tie.", c.Pooled, c.Noise, c.Half)
}

// lossTable has the losses with their differences to the reference.
func (s *Results) lossTable() *grid {
	t := &grid{Head: []string{"variant", "attention layers", "bits a byte", "± between seeds", "nats a token", "difference in bits a byte", "95% interval", "verdict"}, Left: 1}
	bits, ok := s.compare(bitsMetric)
	nats, _ := s.compare(lossMetric)
	for i, a := range s.Grid.Arms {
		row := []string{a.Name, fmt.Sprintf("%d of %d", a.Cost.AttentionLayers, a.Cost.Layers)}
		if !ok {
			t.add(append(row, "–", "–", "–", "–", "–", "–")...)
			continue
		}
		row = append(row, bitsMetric.format(bits.Mean[i]), bitsMetric.format(bits.Deviation[i]), lossMetric.format(nats.Mean[i]))
		t.add(append(row, s.differenceCells(bitsMetric, bits, i)...)...)
		t.note(i, 2, s.perSeed(a, bitsMetric))
		t.note(i, 4, s.perSeed(a, lossMetric))
	}
	return t
}

// differenceCells are a difference, its interval and what it amounts to.
func (s *Results) differenceCells(m metric, c Comparison, i int) []string {
	if s.Grid.Arms[i] == s.Grid.Reference() {
		return []string{"", "", "reference"}
	}
	if math.IsNaN(c.Half) {
		return []string{m.change(c.Diff[i]), "–", "–"}
	}
	return []string{m.change(c.Diff[i]), fmt.Sprintf("%s to %s", m.change(c.Diff[i]-c.Half), m.change(c.Diff[i]+c.Half)), s.judgement(m, c, i)}
}

// perSeed lists the values behind a mean.
func (s *Results) perSeed(a *Arm, m metric) string {
	var all []string
	for _, seed := range s.Grid.Spec.Seeds {
		if r := s.of(a, seed); r != nil {
			all = append(all, fmt.Sprintf("seed %d: %s", seed, m.format(m.of(r))))
		}
	}
	return strings.Join(all, ", ")
}

func (s *Results) stabilityTable() *grid {
	t := &grid{Head: []string{"variant", "steps skipped", "spikes, % of steps", "largest gradient norm", "activations, RMS", "activations, largest"}, Left: 1}
	worst := func(a *Arm, of func(*Result) float64) float64 {
		values := s.valuesOf(a, metric{of: of})
		if len(values) == 0 {
			return math.NaN()
		}
		return slices.Max(values)
	}
	for _, a := range s.Grid.Arms {
		row := []string{a.Name}
		for _, x := range []float64{
			worst(a, func(r *Result) float64 { return float64(r.Skipped) }),
			worst(a, func(r *Result) float64 { return 100 * float64(r.SpikeScore) }),
			worst(a, func(r *Result) float64 { return float64(r.GradNormMax) }),
			worst(a, func(r *Result) float64 { return float64(r.ActivationRMS) }),
			worst(a, func(r *Result) float64 { return float64(r.ActivationMax) }),
		} {
			text := "–"
			if !math.IsNaN(x) {
				text = fmt.Sprintf("%.3g", x)
			}
			row = append(row, text)
		}
		t.add(row...)
	}
	return t
}

func (s *Results) runTable() *grid {
	t := &grid{Head: []string{"run", "seed", "bits a byte", "nats a token", "steps", "configuration", "order of samples"}, Left: 1}
	for _, c := range s.Grid.Cells {
		r := s.Cells[c]
		if r == nil {
			problem := "not done"
			if err := s.Failed[c]; err != nil {
				problem = "failed: " + err.Error()
			}
			t.add(filepath.ToSlash(filepath.Join(cellsDir, c.Name)), fmt.Sprint(c.Seed), problem, "", "", "", "")
			continue
		}
		t.add(filepath.ToSlash(filepath.Join(cellsDir, c.Name)), fmt.Sprint(c.Seed), bitsMetric.format(float64(r.BitsPerByte)), lossMetric.format(float64(r.ValLoss)),
			fmt.Sprint(r.Steps), r.ConfigHash[:12], r.DataHash[:12])
	}
	return t
}

// caveats say what the numbers must not be taken for.
func (s *Results) caveats() []string {
	g := s.Grid
	all := []string{
		fmt.Sprintf("One size, %s parameters in the reference, one budget and one learning rate for all variants: an order of variants here need not hold at another.", human.Count(float64(g.Reference().Cost.Parameters))),
		fmt.Sprintf("The intervals take the noise for the same in all variants and are not widened for the number of comparisons, %d.", len(g.Arms)-1),
		s.timing(),
	}
	all = append(all, s.uneven()...)
	if g.Spec.Match.By != MatchNone {
		all = append(all, fmt.Sprintf("Matched is the %s; the other sizes differ, as the table of costs shows.", matchNames[g.Spec.Match.By]))
	}
	if r := g.Spec.Recall; r.Share > 0 {
		all = append(all, "The loss of training mixes text and problems: compare the validation loss.")
	}
	for _, a := range g.Arms {
		if a.Hub != nil {
			all = append(all, fmt.Sprintf("%s cannot be exported to the hub's format: %v.", a.Name, a.Hub))
		}
	}
	if paths := s.computedOn(); len(paths) > 1 {
		all = append(all, fmt.Sprintf("Runs were computed on %s, which round differently.", join(paths)))
	}
	if n := len(g.Cells) - len(s.Cells); n > 0 {
		all = append(all, fmt.Sprintf("%d of %d runs are missing; comparisons are over the %d seeds that all variants have.", n, len(g.Cells), len(s.seeds())))
	}
	return all
}

// computedOn lists the devices and precisions of the runs, in the order of cells.
func (s *Results) computedOn() []string {
	var all []string
	for _, c := range s.Grid.Cells {
		if r := s.Cells[c]; r != nil && r.ComputedOn != "" && !slices.Contains(all, r.ComputedOn) {
			all = append(all, r.ComputedOn)
		}
	}
	return all
}

// timing says how the speeds were taken.
func (s *Results) timing() string {
	text := "Training in the grid is timed beside the other runs that went on"
	if s.Jobs > 0 {
		text = fmt.Sprintf("Training in the grid was timed beside up to %d other runs", s.Jobs-1)
	}
	if len(s.Costs) == 0 {
		return text + "; nothing was timed alone, and decoding not at all."
	}
	return text + ", and alone on random tokens; decoding is of one sequence."
}
