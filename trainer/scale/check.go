package scale

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
	"jambalaya/trainer"
)

// Check compares predictions with runs on this machine: ranks are goroutines with a
// thread each, and the links between them are slowed down.
type Check struct {
	Config trainer.Config // of one rank: Trainer.BatchSize is that of each
	Worlds []int
	Link   inproc.Link
	Steps  int // to time in each world
}

// Comparison is a world's step as predicted and as measured.
type Comparison struct {
	Ranks     int
	Predicted Step
	Measured  time.Duration // quickest step, each as long as that of its slowest rank
}

// Error is how far off the prediction is, as a share of what was measured.
func (c Comparison) Error() float64 { return c.Predicted.Total()/c.Measured.Seconds() - 1 }

// Run measures what one rank computes, and how much slower ranks are beside each
// other that do not talk; it predicts the rest, and measures that too.
func (c Check) Run(ctx context.Context) ([]Comparison, error) {
	trace, err := c.trace(ctx)
	if err != nil {
		return nil, err
	}
	alone, err := c.time(ctx, 1, nil)
	if err != nil {
		return nil, err
	}
	cores := runtime.NumCPU()
	full, err := c.time(ctx, cores, nil)
	if err != nil {
		return nil, err
	}
	crowded := full.Seconds() / alone.Seconds()
	m := Machine{Name: "this machine", Within: Link{c.Link.BytesPerSecond, c.Link.Latency.Seconds()}, RanksPerNode: 1 << 20, Share: func(n int) float64 {
		if n == 1 {
			return 1
		}
		return crowded * max(1, float64(n)/float64(cores))
	}}
	var all []Comparison
	for _, n := range c.Worlds {
		job := Job{Model: c.Config.Model, Mesh: parallel.Mesh{Data: n, Expert: 1}, Batch: c.Config.Trainer.BatchSize, Length: c.Config.Data.SequenceLength,
			Accumulation: 1, Gradient: 4, Zero1: c.Config.Parallel.Zero1, Bucket: float64(c.Config.Parallel.BucketMiB << 20 / 4)}
		step, err := Simulate(trace, job, m)
		if err != nil {
			return nil, err
		}
		network := inproc.New(n, func(int, int) inproc.Link { return c.Link })
		took, err := c.time(ctx, n, func(rank int) (parallel.Transport, error) {
			return network.Join(parallel.Identity{Run: 1, Generation: 1}, rank)
		})
		if err != nil {
			return nil, err
		}
		all = append(all, Comparison{Ranks: n, Predicted: step, Measured: took})
	}
	return all, nil
}

// trace profiles the steps of one rank. What a step does outside of the kernels of
// the gradient counts as its update.
func (c Check) trace(ctx context.Context) (Trace, error) {
	r, release, err := c.rank(1, nil)
	if err != nil {
		return Trace{}, err
	}
	defer release()
	plan := r.Plans()[0]
	if _, err := r.Step(); err != nil { // the first one finds cold caches
		return Trace{}, err
	}
	spent := plan.Profile()
	var fastest []time.Duration
	best := time.Duration(1 << 62)
	for range c.Steps {
		clear(spent)
		began := time.Now()
		if _, err := r.Step(); err != nil {
			return Trace{}, err
		}
		if took := time.Since(began); took < best {
			best, fastest = took, slices.Clone(spent)
		}
		if err := ctx.Err(); err != nil {
			return Trace{}, err
		}
	}
	update := best
	for _, d := range fastest {
		update -= d
	}
	return Measured(r.Weights(), plan, fastest, update)
}

// rank makes the rehearsal of one of n ranks.
func (c Check) rank(n int, transport parallel.Transport) (r *trainer.Rehearsal, release func(), err error) {
	cfg := c.Config
	var world *trainer.World
	if transport != nil {
		world = &trainer.World{Transport: transport}
		cfg.Trainer.BatchSize *= n
		cfg.Parallel.Data, cfg.Parallel.Expert = n, 1
	}
	d, err := trainer.OpenDevice("cpu", 1)
	if err != nil {
		return nil, nil, err
	}
	if r, err = trainer.NewRehearsal(d, cfg, world); err != nil {
		d.Close()
		return nil, nil, err
	}
	return r, func() { r.Close(); d.Close() }, nil
}

// time returns the quickest step of n ranks that run beside each other; if join is nil they
// do not talk.
func (c Check) time(ctx context.Context, n int, join func(rank int) (parallel.Transport, error)) (time.Duration, error) {
	// Processes of their own would leave it to the system to run what takes messages
	// beside what computes; Go looks for such goroutines only now and then when all its
	// processors compute.
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(2*n + runtime.NumCPU()))
	errs, times := make([]error, n), make([][]time.Duration, n)
	var all sync.WaitGroup
	for rank := range n {
		all.Go(func() { times[rank], errs[rank] = c.steps(ctx, n, rank, join) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return 0, err
	}
	best := time.Duration(1 << 62)
	for step := range c.Steps {
		slowest := time.Duration(0)
		for rank := range n {
			slowest = max(slowest, times[rank][step])
		}
		best = min(best, slowest)
	}
	return best, nil
}

func (c Check) steps(ctx context.Context, n, rank int, join func(rank int) (parallel.Transport, error)) ([]time.Duration, error) {
	var transport parallel.Transport
	if join != nil {
		var err error
		if transport, err = join(rank); err != nil {
			return nil, err
		}
		defer transport.Close()
	}
	r, release, err := c.rank(n, transport)
	if err != nil {
		return nil, err
	}
	defer release()
	var times []time.Duration
	for i := range c.Steps + 1 {
		began := time.Now()
		if _, err := r.Step(); err != nil {
			return nil, fmt.Errorf("rank %d: %w", rank, err)
		}
		if i > 0 { // the first one finds cold caches
			times = append(times, time.Since(began))
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
	}
	return times, nil
}

// PrintCheck writes a table for people.
func PrintCheck(w io.Writer, link inproc.Link, all []Comparison) error {
	fmt.Fprintf(w, "ranks of one thread on %d cores, links of %.0f MB/s and %v\n\n", runtime.NumCPU(), link.BytesPerSecond/1e6, link.Latency)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "ranks\tpredicted ms\tmeasured ms\toff by\tof it reduction\thidden\t")
	for _, c := range all {
		fmt.Fprintf(t, "%d\t%.1f\t%.1f\t%+.1f%%\t%.1f ms\t%.0f%%\t\n", c.Ranks, 1e3*c.Predicted.Total(), 1e3*c.Measured.Seconds(), 100*c.Error(),
			1e3*c.Predicted.Reduction, 100*c.Predicted.Hidden())
	}
	return t.Flush()
}
