package experiments

import (
	"context"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"time"

	"jambalaya/checkpoint"
	"jambalaya/data"
	"jambalaya/data/recall"
	"jambalaya/internal/prng"
	"jambalaya/internal/resident"
	"jambalaya/internal/vfs"
	"jambalaya/trainer"
	"jambalaya/trainer/report"
)

// measure reads what a finished run left, and tests its model.
func (g *Grid) measure(ctx context.Context, m *material, c *Cell, dir string) (*Result, error) {
	r := &Result{Cell: c.Name, Variant: c.Arm.Name, Seed: c.Seed, ConfigHash: c.Hash}
	if err := r.lastState(ctx, dir); err != nil {
		return nil, err
	}
	if want := m.orders[c.Seed]; r.DataHash != want {
		return nil, fmt.Errorf("cell %s: it has read samples in another order than the other cells of its seed", c.Name)
	}
	lines, err := report.ReadMetrics(filepath.Join(dir, metricsFile))
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(lines, func(l report.Line) bool { return l.Train != nil }) {
		return nil, fmt.Errorf("%s: has no step in it, but the run is complete; remove %s to run this cell again", filepath.Join(dir, metricsFile), dir)
	}
	r.readMetrics(lines)
	trained, err := trainer.OpenTrained(ctx, dir, c.Config.Trainer.Device, c.Config.Trainer.Threads)
	if err != nil {
		return nil, err
	}
	defer trained.Close()
	if err := r.activations(ctx, trained, c.Config); err != nil {
		return nil, err
	}
	if m.problems != nil {
		err = r.recall(ctx, trained, m.problems, g.Spec.Recall)
	}
	return r, err
}

// Names in a run's directory.
const (
	metricsFile   = "metrics.jsonl"
	checkpointDir = "checkpoints"
)

// lastState reads what the newest checkpoint says of how it came about.
func (r *Result) lastState(ctx context.Context, dir string) error {
	fsys, err := vfs.Dir(dir)
	if err != nil {
		return err
	}
	defer fsys.Close()
	found, _, err := checkpoint.Find(ctx, fsys, checkpointDir)
	if err != nil {
		return err
	}
	r.DataHash, r.ComputedOn = found.State.DataHash, found.State.CPUPath
	return nil
}

// readMetrics sums up the metrics of a run, of one step or more.
func (r *Result) readMetrics(lines []report.Line) {
	var losses, rates, norms []float64
	for _, l := range lines {
		r.Steps, r.Tokens = l.Step, l.Tokens
		if l.Validation != nil {
			r.ValLoss, r.BitsPerByte = l.ValLoss, l.BitsPerByte
		}
		if l.Train == nil {
			continue
		}
		losses, rates, norms = append(losses, float64(l.CELoss)), append(rates, float64(l.TokensPerS)), append(norms, float64(l.GradNorm))
		if l.Skipped != "" {
			r.Skipped++
		}
	}
	tenth := (len(losses) + 9) / 10
	r.TrainLoss = report.Number(mean(losses[len(losses)-tenth:]))
	r.TokensPerS = report.Number(median(rates))
	r.GradNormMax = report.Number(slices.Max(norms[min(tenth, len(norms)-1):]))
	r.SpikeScore = report.Number(spikeScore(losses))
}

// spikeScore is the share of losses that are 6 standard deviations above the mean
// of the 128 before (after the SpikeScore of OLMo-core, which has 7 and 1000).
func spikeScore(losses []float64) float64 {
	const window, deviations = 128, 6
	spikes, judged := 0, 0
	for i := window; i < len(losses); i++ {
		before := losses[i-window : i]
		judged++
		if losses[i] > mean(before)+deviations*deviation(before) || math.IsNaN(losses[i]) {
			spikes++
		}
	}
	return float64(spikes) / float64(max(1, judged))
}

// activations measures the residual stream on the first held-out text.
func (r *Result) activations(ctx context.Context, t *trainer.Trained, cfg trainer.Config) error {
	corpus, err := data.Open(ctx, cfg.Data, nil)
	if err != nil {
		return err
	}
	defer corpus.Close()
	held, err := corpus.Evaluation(int64(cfg.Trainer.EvalTokens))
	if err != nil {
		return err
	}
	rows := cfg.Trainer.BatchSize
	s, err := t.NewScorer(rows, cfg.Data.SequenceLength)
	if err != nil {
		return err
	}
	defer s.Close()
	for b := range held.Batches(rows) {
		unasked := slices.Repeat([]int32{-1}, len(b.Inputs))
		if err := s.Choices(b.Inputs, b.Docs, unasked); err != nil {
			return err
		}
		break
	}
	a, err := s.Activations()
	r.ActivationRMS, r.ActivationMax = report.Number(a.RMS), report.Number(a.Max)
	return err
}

// recall asks the problems, which no training data holds.
func (r *Result) recall(ctx context.Context, t *trainer.Trained, problems *recall.Generator, spec Recall) error {
	for _, length := range spec.EvalLengths {
		rows := max(1, min(spec.Problems, 4096/length))
		s, err := t.NewScorer(rows, length)
		if err != nil {
			return err
		}
		for _, task := range recall.Tasks() {
			draw := prng.New(recallSeed, fmt.Sprintf("recall/%d/evaluation/%s", length, task))
			right, answers := 0, 0
			for asked := 0; asked < spec.Problems; asked += rows {
				if err := ctx.Err(); err != nil {
					s.Close()
					return err
				}
				var batch []recall.Problem
				for range rows {
					batch = append(batch, problems.Problem(task, length, draw))
				}
				n, of, err := ask(s, batch, length)
				if err != nil {
					s.Close()
					return err
				}
				right, answers = right+n, answers+of
			}
			r.Recall = append(r.Recall, RecallScore{Task: string(task), Length: length, Answers: answers,
				Accuracy: report.Number(float64(right) / float64(max(1, answers))), Chance: report.Number(task.Chance())})
		}
		s.Close()
	}
	return nil
}

// ask returns how many answers of a batch are right, and of how many.
func ask(s *trainer.Scorer, batch []recall.Problem, length int) (right, answers int, err error) {
	inputs, choices := make([]int32, len(batch)*length), make([]int32, len(batch)*length)
	for i := range choices {
		choices[i] = -1
	}
	for row, p := range batch {
		for i, id := range p.Tokens {
			inputs[row*length+i] = int32(id)
			if p.Answer[i] != 0 {
				choices[row*length+i-1] = 0
			}
		}
	}
	if err := s.Choices(inputs, make([]int32, len(inputs)), choices); err != nil {
		return 0, 0, err
	}
	for row, p := range batch {
		for i, isAnswer := range p.Answer {
			if isAnswer == 0 {
				continue
			}
			answers++
			if choices[row*length+i-1] == int32(p.Tokens[i]) {
				right++
			}
		}
	}
	return right, answers, nil
}

const (
	rehearsedSteps = 5
	decodeContext  = 256 // tokens read before decoding is timed
	decodeTokens   = 64  // of one timing
	decodeTimings  = 3   // of which the fastest counts
)

// rehearsal is what a training step costs.
type rehearsal struct {
	device  string
	seconds float64 // of a step: the median of a few
	planned int64   // bytes
	peak    int64   // bytes that the process had resident, or that are taken of the GPU; 0 if unknown
}

// rehearse takes a few steps on random tokens. Nothing else may run meanwhile if the
// peak of memory is to be theirs.
func rehearse(cfg trainer.Config) (rehearsal, error) {
	forgotten := resident.Reset()
	device, err := trainer.OpenDevice(cfg.Trainer.Device, cfg.Trainer.Threads)
	if err != nil {
		return rehearsal{}, err
	}
	defer device.Close()
	r, err := trainer.NewRehearsal(device, cfg, nil)
	if err != nil {
		return rehearsal{}, err
	}
	defer r.Close()
	var seconds []float64
	for range rehearsedSteps + 1 {
		began := time.Now()
		if _, err := r.Step(); err != nil {
			return rehearsal{}, err
		}
		seconds = append(seconds, time.Since(began).Seconds())
	}
	// The first step finds cold caches and does not count.
	result := rehearsal{device: device.Name(), seconds: median(seconds[1:]), planned: r.Planned()}
	if forgotten || device.Name() != "cpu" {
		result.peak = device.Peak()
	}
	return result, nil
}

// costs measures what a variant costs, with weights as they are drawn: what a token
// costs does not depend on them, and checkpoints may be gone.
func (g *Grid) costs(ctx context.Context, c *Cell) (*Costs, error) {
	k := &Costs{Variant: c.Arm.Name, ConfigHash: c.Hash, Threads: c.Config.Trainer.Threads, DecodeContext: decodeContext}
	rehearsal, err := rehearse(c.Config)
	if err != nil {
		return nil, err
	}
	k.Device, k.PlannedMemory, k.PeakMemory = rehearsal.device, rehearsal.planned, rehearsal.peak
	k.TrainTokensPerS = report.Number(float64(tokensPerStep(c.Config)) / rehearsal.seconds)
	fresh, err := trainer.NewUntrained(c.Config)
	if err != nil {
		return nil, err
	}
	defer fresh.Close()
	k.StateContext = max(g.Spec.Contexts[0], decodeContext+decodeTokens*decodeTimings+1)
	gen, err := fresh.NewGenerator(k.StateContext)
	if err != nil {
		return nil, err
	}
	defer gen.Close()
	k.StateBytes = gen.StateBytes()
	if want := CacheOf(c.Config.Model, k.StateContext).Total(); k.StateBytes != want {
		return nil, fmt.Errorf("variant %s: the generator keeps %d bytes of states for %d tokens, not %d as counted", c.Arm.Name, k.StateBytes, k.StateContext, want)
	}
	if _, err := gen.Read(make([]int32, decodeContext)); err != nil {
		return nil, err
	}
	for range decodeTimings {
		began := time.Now()
		for range decodeTokens {
			if _, err := gen.Read([]int32{1}); err != nil {
				return nil, err
			}
		}
		k.DecodeTokensPerS = max(k.DecodeTokensPerS, report.Number(decodeTokens/time.Since(began).Seconds()))
	}
	return k, ctx.Err()
}
