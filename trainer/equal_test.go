package trainer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	"jambalaya/configs"
	"jambalaya/data"
	"jambalaya/parallel"
	"jambalaya/trainer/report"
)

// equalSteps is the environment variable with the number of steps of TestEqual.
const equalSteps = "JAMBALAYA_TEST_EQUAL_STEPS"

// TestEqual trains the model of nano on every mesh and compares the losses with those
// of a rank alone: within rounding until a token first goes to another expert. The
// controls choose all experts, so that nothing can flip: at nano's learning rate, at which
// rounding grows fast, and at a tenth of it. It takes minutes, and so runs only when asked
// to; docs/parallel.md has its figures.
func TestEqual(t *testing.T) {
	steps, _ := strconv.Atoi(os.Getenv(equalSteps))
	if steps == 0 {
		t.Skip("set " + equalSteps + " to the number of steps, 100 say")
	}
	cache := t.TempDir()
	corpus := writeProse(t)
	for _, c := range []struct {
		experts int
		lr      float64
	}{{2, 3e-3}, {4, 3e-3}, {4, 3e-4}} {
		t.Run(fmt.Sprintf("top %d at %g", c.experts, c.lr), func(t *testing.T) {
			cfg := equalConfig(t, corpus, cache, steps)
			cfg.Model.NumExpertsPerTok, cfg.Optim.LR = c.experts, c.lr
			dir := t.TempDir()
			trainAlone(t, dir, cfg)
			want := trainLines(t, dir)
			for _, w := range equalWorlds {
				compareWorld(t, cfg, w, want)
			}
		})
	}
}

// compareWorld trains in a world and compares with the lines of a rank alone.
func compareWorld(t *testing.T, c Config, w world, want []report.Train) {
	t.Helper()
	c.Parallel.Data, c.Parallel.Expert, c.Parallel.Zero1 = w.Data, w.Expert, w.zero1
	if w.accumulation > 1 {
		c.Trainer.BatchSize, c.Trainer.Accumulation = c.Trainer.BatchSize/w.accumulation, w.accumulation
	}
	dir := t.TempDir()
	trainWorld(t, dir, c, 1)
	got := trainLines(t, dir)
	if len(got) != len(want) {
		t.Fatalf("%v: %d steps, want %d", w, len(got), len(want))
	}
	apart, flip, worst := compareLines(want, got)
	t.Logf("%-24v %d steps, apart by more than 1e-5 from step %d on, first flip at step %d, largest difference before it %.1e (loss %.3f to %.3f)",
		w, len(got), apart, flip, worst, got[0].Loss, got[len(got)-1].Loss)
	if worst > 5e-5 { // rounding grows over the steps, also where all experts are chosen and none flips
		t.Errorf("%v: losses differ by %.1e without a flip", w, worst)
	}
}

// equalWorlds are the meshes of TestEqual.
var equalWorlds = []world{
	{Mesh: parallel.Mesh{Data: 1, Expert: 1}, accumulation: 2},
	{Mesh: parallel.Mesh{Data: 2, Expert: 1}},
	{Mesh: parallel.Mesh{Data: 2, Expert: 1}, zero1: true},
	{Mesh: parallel.Mesh{Data: 4, Expert: 1}},
	{Mesh: parallel.Mesh{Data: 4, Expert: 1}, zero1: true},
	{Mesh: parallel.Mesh{Data: 1, Expert: 2}},
	{Mesh: parallel.Mesh{Data: 1, Expert: 2}, zero1: true, accumulation: 2},
	{Mesh: parallel.Mesh{Data: 1, Expert: 4}},
	{Mesh: parallel.Mesh{Data: 2, Expert: 2}},
	{Mesh: parallel.Mesh{Data: 2, Expert: 2}, zero1: true, accumulation: 2},
}

// writeProse writes a corpus that no change of the code changes, some 400 kB of sentences
// of a made-up language, and returns its directory.
func writeProse(t *testing.T) string {
	t.Helper()
	dir, rng := t.TempDir(), rand.New(rand.NewPCG(11, 3))
	words := make([]string, 400)
	for i := range words {
		for range 1 + rng.IntN(4) {
			words[i] += string("bdfgklmnprstvz"[rng.IntN(14)]) + string("aeiou"[rng.IntN(5)])
		}
	}
	for file := range 100 {
		var text []byte
		for len(text) < 4000 {
			at := rng.IntN(len(words))
			for range 4 + rng.IntN(12) {
				text = append(append(text, words[at]...), ' ')
				at = (7*at + rng.IntN(5)) % len(words) // one of five follows each word
			}
			text[len(text)-1] = '.'
			text = append(text, '\n')
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%03d.txt", file)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// equalConfig is nano on short sequences of the corpus.
func equalConfig(t *testing.T, corpus, cache string, steps int) Config {
	t.Helper()
	file, err := configs.Load("nano")
	if err != nil {
		t.Fatal(err)
	}
	c, _, err := LoadConfig(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	tiny := tinyConfig(cache)
	c.Data, c.Checkpoint = tiny.Data, tiny.Checkpoint
	c.Data.Sources = []data.Source{{Path: corpus, Ext: ".txt"}}
	c.Data.SequenceLength, c.Trainer.BatchSize = 64, 8
	c.Trainer.Minutes, c.Trainer.Steps, c.Trainer.Threads = 0, steps, 1
	c.Trainer.Samples, c.Trainer.EvalEvery, c.Trainer.EvalTokens = 0, steps, 1024
	c.Checkpoint.Every = steps
	c.Optim.WarmupSteps = 20
	return c
}

func trainLines(t *testing.T, dir string) []report.Train {
	t.Helper()
	lines, err := report.ReadMetrics(filepath.Join(dir, metricsFile))
	if err != nil {
		t.Fatal(err)
	}
	var all []report.Train
	for _, l := range lines {
		if l.Train != nil {
			all = append(all, *l.Train)
		}
	}
	return all
}

// compareLines returns the first step whose loss differs by more than 1e-5, the first
// in which experts have another number of tokens, and the largest relative difference of
// losses before that; steps count from 1, 0 is never.
func compareLines(want, got []report.Train) (apart, flip int, worst float64) {
	for i := range min(len(want), len(got)) {
		a, b := want[i], got[i]
		if flip == 0 && !slices.EqualFunc(a.ExpertLoad, b.ExpertLoad, sameLoad) {
			flip = i + 1
		}
		d := math.Abs(float64(a.Loss)/float64(b.Loss) - 1)
		if flip == 0 {
			worst = max(worst, d)
		}
		if apart == 0 && !(d <= 1e-5) {
			apart = i + 1
		}
	}
	return apart, flip, worst
}

func sameLoad(a, b []report.Number) bool {
	return slices.EqualFunc(a, b, func(x, y report.Number) bool { return math.Abs(float64(x-y)) < 1e-9 })
}
