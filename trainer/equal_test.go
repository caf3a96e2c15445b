package trainer

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"testing"

	"jambalaya/configs"
	"jambalaya/data"
	"jambalaya/data/source"
	"jambalaya/model"
	"jambalaya/parallel"
	"jambalaya/trainer/report"
)

// equalSteps is the environment variable with the number of steps of TestEqual.
const equalSteps = "JAMBALAYA_TEST_EQUAL_STEPS"

// TestEqual trains the model of nano on every mesh and compares the losses with those
// of a rank alone: within rounding until a token first goes to another expert. It compares
// the chosen experts themselves, of every token and layer. The controls choose all
// experts, so that nothing can flip: at nano's learning rate, at which rounding grows
// fast, and at a tenth of it. With parts the bits are the same. It takes minutes, and so runs only when asked to;
// docs/parallel.md has its figures.
func TestEqual(t *testing.T) {
	steps, _ := strconv.Atoi(os.Getenv(equalSteps))
	if steps == 0 {
		t.Skip("set " + equalSteps + " to the number of steps, 100 say")
	}
	cache := t.TempDir()
	for _, corpus := range []struct {
		name    string
		sources []data.Source
	}{{"made-up text", []data.Source{{Path: writeProse(t), Ext: ".txt"}}}, {"Go source", []data.Source{{Path: source.GoSource}}}} {
		for _, c := range []struct {
			experts int
			lr      float64
			parts   int
		}{{2, 3e-3, 0}, {4, 3e-3, 0}, {4, 3e-4, 0}, {2, 3e-3, 8}, {4, 3e-3, 8}} {
			t.Run(fmt.Sprintf("%s, top %d at %g, %d parts", corpus.name, c.experts, c.lr, c.parts), func(t *testing.T) {
				cfg := equalConfig(t, corpus.sources, cache, steps)
				cfg.Model.NumExpertsPerTok, cfg.Optim.LR, cfg.Trainer.Parts = c.experts, c.lr, c.parts
				want := trainEqual(t, cfg, world{Mesh: parallel.Mesh{Data: 1, Expert: 1}})
				if c.parts == 0 {
					compareEqual(t, "alone, one bit of one weight changed", want, trainNudged(t, cfg))
				}
				for _, w := range equalWorlds {
					got := trainEqual(t, cfg, w)
					compareEqual(t, w.String(), want, got)
					if c.parts > 0 && !reflect.DeepEqual(got.lines, want.lines) {
						t.Errorf("%v: other bits", w)
					}
				}
			})
		}
	}
}

// equalRun is a run of TestEqual.
type equalRun struct {
	lines   []report.Train
	choices *choices
}

func trainEqual(t *testing.T, c Config, w world) equalRun {
	t.Helper()
	return trainFollowed(t, c, w, func(*learner) {})
}

// trainNudged trains on one rank, but for the last bit of one weight: what the arithmetic
// of a step makes of the smallest difference that there can be.
func trainNudged(t *testing.T, c Config) equalRun {
	t.Helper()
	return trainFollowed(t, c, world{Mesh: parallel.Mesh{Data: 1, Expert: 1}}, func(l *learner) {
		done := false
		l.plan.OnReady(l.graph.Loss, func() {
			if done {
				return
			}
			done = true
			i := slices.IndexFunc(l.weights.Params, func(p model.Param) bool { return p.Name == model.FinalLayernorm })
			w := l.weights.Param(l.weights.Value, i)
			x := make([]float32, w.Size())
			err := l.backend.Read(x, w)
			x[0] = math.Nextafter32(x[0], 2)
			if err = errors.Join(err, l.backend.Write(w, x)); err != nil {
				t.Error(err)
			}
		})
	})
}

func trainFollowed(t *testing.T, c Config, w world, change func(*learner)) equalRun {
	t.Helper()
	r := equalRun{choices: newChoices(c)}
	c.Parallel.Data, c.Parallel.Expert, c.Parallel.Zero1 = w.Data, w.Expert, w.zero1
	if w.accumulation > 1 && c.Trainer.Parts == 0 { // which cut a step already
		c.Trainer.BatchSize, c.Trainer.Accumulation = c.Trainer.BatchSize/w.accumulation, w.accumulation
	}
	dir := t.TempDir()
	errs := runWorld(t, t.Context(), dir, c, 1, func(_ int, _ *Config, opt *Options) {
		opt.inspect = func(l *learner) {
			r.choices.follow(l)
			change(l)
		}
	})
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
	r.lines = trainLines(t, dir)
	return r
}

// compareEqual holds a run to that of a rank alone.
func compareEqual(t *testing.T, name string, want, got equalRun) {
	t.Helper()
	if len(got.lines) != len(want.lines) {
		t.Fatalf("%s: %d steps, want %d", name, len(got.lines), len(want.lines))
	}
	flip, what := got.choices.firstFlip(want.choices)
	var growth []string    // of the difference, every ten steps
	apart, worst := 0, 0.0 // the first step that differs by more than 1e-5, and the most before the flip
	for i := range want.lines {
		d := math.Abs(float64(want.lines[i].Loss/got.lines[i].Loss) - 1)
		if (i+1)%10 == 0 {
			growth = append(growth, fmt.Sprintf("%.0e", d))
		}
		if apart == 0 && !(d <= 1e-5) {
			apart = i + 1
		}
		if flip == 0 || i+1 < flip {
			worst = max(worst, d)
		}
	}
	last := got.lines[len(got.lines)-1]
	t.Logf("%-24s %d steps, apart by more than 1e-5 from step %d on, largest difference before the first flip %.1e (loss %.3f to %.3f); first flip: %s; every ten steps %v",
		name, len(got.lines), apart, worst, got.lines[0].Loss, last.Loss, what, growth)
	if worst > 5e-4 { // rounding grows over the steps, also where nothing can flip
		t.Errorf("%s: losses differ by %.1e without a flip", name, worst)
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

// equalConfig is nano on short sequences of the sources.
func equalConfig(t *testing.T, sources []data.Source, cache string, steps int) Config {
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
	c.Data.Sources = sources
	c.Data.SequenceLength, c.Trainer.BatchSize = 64, 8
	c.Trainer.Minutes, c.Trainer.Steps, c.Trainer.Threads = 0, steps, 1
	c.Trainer.Samples, c.Trainer.EvalEvery, c.Trainer.EvalTokens = 0, steps, 1024
	c.Checkpoint.Every = steps
	c.Optim.WarmupSteps = 20
	c.Trainer.HangSeconds = 0 // a busy machine is no hang
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
