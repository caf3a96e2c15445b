package trainer

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"jambalaya/internal/vfs"
	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
	"jambalaya/trainer/report"
)

// testRun is the run of all tests in worlds.
const testRun = 0xcafe

// worldConfig is tinyConfig for up to 4 ranks.
func worldConfig(cache string, mesh parallel.Mesh) Config {
	c := tinyConfig(cache)
	c.Trainer.BatchSize, c.Trainer.Accumulation, c.Trainer.Steps = 8, 1, 12
	c.Trainer.Threads = 1
	c.Parallel.Data, c.Parallel.Expert = mesh.Data, mesh.Expert
	return c
}

// runWorld trains in dir with a goroutine a rank, in one generation, and returns what
// Run said on each.
func runWorld(t *testing.T, ctx context.Context, dir string, cfg Config, generation uint64, change func(rank int, cfg *Config, opt *Options)) []error {
	t.Helper()
	size := cfg.Parallel.Mesh().Size()
	network := inproc.New(size, nil)
	errs := make([]error, size)
	var wg sync.WaitGroup
	for rank := range size {
		transport, err := network.Join(parallel.Identity{Run: testRun, Generation: generation}, rank)
		if err != nil {
			t.Fatal(err)
		}
		cfg, opt := cfg, Options{Name: "tiny", Out: dir, Stdout: testOut(t), World: &World{Transport: transport}}
		if change != nil {
			change(rank, &cfg, &opt)
		}
		wg.Go(func() {
			defer transport.Close()
			errs[rank] = Run(ctx, cfg, opt)
		})
	}
	wg.Wait()
	return errs
}

// testOut is where the runs of a test print to: the test's own output is only for what
// went wrong.
func testOut(t *testing.T) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

// trainWorld runs a world to its end and returns its losses.
func trainWorld(t *testing.T, dir string, cfg Config, generation uint64) []float64 {
	t.Helper()
	if err := errors.Join(runWorld(t, t.Context(), dir, cfg, generation, nil)...); err != nil {
		t.Fatal(err)
	}
	return lossesOf(t, dir)
}

// lossesOf reads the training losses of a run.
func lossesOf(t *testing.T, dir string) []float64 {
	t.Helper()
	lines, err := report.ReadMetrics(filepath.Join(dir, metricsFile))
	if err != nil {
		t.Fatal(err)
	}
	var losses []float64
	for _, l := range lines {
		if l.Train != nil {
			losses = append(losses, float64(l.Train.Loss))
		}
	}
	return losses
}

// trainAlone is the run that worlds are compared with.
func trainAlone(t *testing.T, dir string, cfg Config) []float64 {
	t.Helper()
	cfg.Parallel = parallel.Default()
	if err := Run(t.Context(), cfg, Options{Name: "tiny", Out: dir, Stdout: testOut(t)}); err != nil {
		t.Fatal(err)
	}
	return lossesOf(t, dir)
}

// firstApart returns the first step, from 1, at which losses differ by more than
// tolerance, relatively; 0 if there is none.
func firstApart(a, b []float64, tolerance float64) int {
	for i := range a {
		if i >= len(b) || !(math.Abs(a[i]/b[i]-1) <= tolerance) {
			return i + 1
		}
	}
	return 0
}

// world is a mesh with its options, as in 2x1 zero1.
type world struct {
	parallel.Mesh
	zero1        bool
	accumulation int
}

func (w world) String() string {
	s := fmt.Sprintf("%dx%d", w.Data, w.Expert)
	if w.zero1 {
		s += " zero1"
	}
	if w.accumulation > 1 {
		s += fmt.Sprintf(" accumulation %d", w.accumulation)
	}
	return s
}

func (w world) config(cache string) Config {
	c := worldConfig(cache, w.Mesh)
	c.Parallel.Zero1 = w.zero1
	if w.accumulation > 1 { // the same sequences a step
		c.Trainer.BatchSize /= w.accumulation
		c.Trainer.Accumulation = w.accumulation
	}
	return c
}

// TestWorldsAgree: the losses are those of a rank alone, and the same bits in every run.
func TestWorldsAgree(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	want := trainAlone(t, t.TempDir(), world{Mesh: parallel.Mesh{Data: 1, Expert: 1}}.config(cache))
	for _, w := range []world{
		{Mesh: parallel.Mesh{Data: 2, Expert: 1}},
		{Mesh: parallel.Mesh{Data: 4, Expert: 1}},
		{Mesh: parallel.Mesh{Data: 2, Expert: 1}, zero1: true},
		{Mesh: parallel.Mesh{Data: 4, Expert: 1}, zero1: true},
		{Mesh: parallel.Mesh{Data: 2, Expert: 1}, zero1: true, accumulation: 2},
		{Mesh: parallel.Mesh{Data: 1, Expert: 2}},
		{Mesh: parallel.Mesh{Data: 1, Expert: 4}, zero1: true},
		{Mesh: parallel.Mesh{Data: 2, Expert: 2}, zero1: true, accumulation: 2},
		{Mesh: parallel.Mesh{Data: 2, Expert: 2}},
	} {
		t.Run(w.String(), func(t *testing.T) {
			t.Parallel()
			got := trainWorld(t, t.TempDir(), w.config(cache), 1)
			if at := firstApart(want, got, 1e-5); at > 0 {
				t.Errorf("step %d: loss %v, alone %v", at, got[at-1:], want[at-1:])
			}
			if again := trainWorld(t, t.TempDir(), w.config(cache), 1); !slices.Equal(again, got) {
				t.Errorf("a second run has other losses:\n%v\n%v", again, got)
			}
		})
	}
}

// TestWorldsDropAlike: with a capacity, ranks drop as many assignments of each layer as one
// alone and have its losses; without one, no drops are reported.
func TestWorldsDropAlike(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	run := func(w world, factor float64) []report.Train {
		c := w.config(cache)
		c.Model.ExpertCapacityFactor, c.Trainer.Steps = factor, 6
		dir := t.TempDir()
		if w.Size() == 1 {
			trainAlone(t, dir, c)
		} else {
			trainWorld(t, dir, c, 1)
		}
		return trainLines(t, dir)
	}
	alone := world{Mesh: parallel.Mesh{Data: 1, Expert: 1}}
	for _, line := range run(alone, 0) {
		if line.ExpertDrops != nil {
			t.Fatalf("drops %v without a capacity", line.ExpertDrops)
		}
	}
	want := run(alone, 0.75)
	for _, w := range []world{
		{Mesh: alone.Mesh, accumulation: 4},
		{Mesh: parallel.Mesh{Data: 2, Expert: 1}},
		{Mesh: parallel.Mesh{Data: 1, Expert: 2}, zero1: true},
		{Mesh: parallel.Mesh{Data: 1, Expert: 4}},
		{Mesh: parallel.Mesh{Data: 2, Expert: 2}},
	} {
		got := run(w, 0.75)
		for i, line := range want {
			if !slices.Equal(got[i].ExpertDrops, line.ExpertDrops) {
				t.Errorf("%v, step %d: drops %v, alone %v", w, i+1, got[i].ExpertDrops, line.ExpertDrops)
			}
			if d := math.Abs(float64(got[i].Loss/line.Loss) - 1); !(d <= 1e-5) {
				t.Errorf("%v, step %d: loss %v, alone %v", w, i+1, got[i].Loss, line.Loss)
			}
			if len(line.ExpertDrops) != 2 {
				t.Fatalf("step %d: drops %v of 2 layers with experts", i+1, line.ExpertDrops)
			}
			for layer, n := range line.ExpertDrops { // what 3/4 of the assignments leave, at least
				if all := report.Number(8 * 48 * 2); n < all/4 || n > all {
					t.Errorf("step %d, layer %d: %v of %v assignments dropped", i+1, layer, n, all)
				}
			}
		}
	}
}

// TestElastic goes on with a run on another mesh, again and again.
func TestElastic(t *testing.T) {
	t.Parallel()
	cache, dir := t.TempDir(), t.TempDir()
	want := trainAlone(t, t.TempDir(), world{Mesh: parallel.Mesh{Data: 1, Expert: 1}}.config(cache))
	trainElastic(t, dir, func(w world) Config { return w.config(cache) },
		world{Mesh: parallel.Mesh{Data: 4, Expert: 1}, zero1: true},
		world{Mesh: parallel.Mesh{Data: 1, Expert: 2}},
		world{Mesh: parallel.Mesh{Data: 2, Expert: 4}, zero1: true},
		world{Mesh: parallel.Mesh{Data: 4, Expert: 1}})
	got := lossesOf(t, dir)
	if at := firstApart(want, got, 1e-5); at > 0 {
		t.Errorf("step %d: loss %v, alone %v", at, got[at-1:], want[at-1:])
	}
}

// trainElastic takes three steps in each world, and in the last one those that are left.
func trainElastic(t *testing.T, dir string, config func(world) Config, worlds ...world) {
	t.Helper()
	for i, w := range worlds {
		stop, last := int64(3*(i+1)), i == len(worlds)-1
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		errs := runWorld(t, ctx, dir, config(w), uint64(i+1), func(rank int, _ *Config, opt *Options) {
			if rank == 0 && !last {
				opt.World.Watch = func(p Progress) {
					if p.Step == stop {
						cancel()
					}
				}
			}
		})
		for rank, err := range errs {
			if !errors.Is(err, ErrStopped) && !(last && err == nil) {
				t.Fatalf("%v, rank %d: %v", w, rank, err)
			}
		}
	}
}

// TestAbortedSaveIsNoWarning: a checkpoint that ends with its generation has not failed.
func TestAbortedSaveIsNoWarning(t *testing.T) {
	t.Parallel()
	cfg := worldConfig(t.TempDir(), parallel.Mesh{Data: 2, Expert: 1})
	var leaders *os.File
	errs := runWorld(t, t.Context(), t.TempDir(), cfg, 1, func(rank int, _ *Config, opt *Options) {
		if rank == 0 {
			leaders = opt.Stdout
			return
		}
		transport := opt.World.Transport
		opt.wrap = func(fsys vfs.FS) vfs.FS {
			return vfs.NewFaults(fsys, func(op vfs.Op) error {
				if op.Kind == "create" { // its part of the first checkpoint
					transport.Abort(errors.New("killed"))
				}
				return nil
			})
		}
	})
	for rank, err := range errs {
		if !errors.Is(err, parallel.ErrAborted) {
			t.Errorf("rank %d: %v", rank, err)
		}
	}
	const want = "the checkpoint of step 3 is left unfinished"
	var text []byte
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(string(text), want); time.Sleep(time.Millisecond) {
		var err error
		if text, err = os.ReadFile(leaders.Name()); err != nil || time.Now().After(deadline) {
			t.Fatalf("%v; not said: %s\n%s", err, want, text)
		}
	}
	if strings.Contains(string(text), "warning: checkpoint") {
		t.Errorf("%s", text)
	}
}
