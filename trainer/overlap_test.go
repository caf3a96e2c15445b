package trainer

import (
	"os"
	"sync"
	"testing"
	"time"

	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
)

// rehearseWorld takes steps with ranks of one thread each over links, and returns how long
// they took on average and what rank 0's reductions did. The first step does not count.
func rehearseWorld(t *testing.T, cfg Config, link inproc.Link, steps int) (time.Duration, parallel.Times) {
	t.Helper()
	size := cfg.Parallel.Mesh().Size()
	network := inproc.New(size, func(int, int) inproc.Link { return link })
	var spent time.Duration
	var times parallel.Times
	var wg sync.WaitGroup
	for rank := range size {
		transport, err := network.Join(parallel.Identity{Run: testRun, Generation: 1}, rank)
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			defer transport.Close()
			device, err := OpenDevice("cpu", 1)
			if err != nil {
				t.Error(err)
				return
			}
			defer device.Close()
			r, err := NewRehearsal(device, cfg, &World{Transport: transport})
			if err != nil {
				t.Error(err)
				return
			}
			defer r.Close()
			var began time.Time
			var before parallel.Times
			for step := range steps + 1 {
				if step == 1 {
					began, before = time.Now(), r.Reductions()
				}
				if _, err := r.Step(); err != nil {
					t.Error(err)
					return
				}
			}
			if rank == 0 {
				spent = time.Since(began) / time.Duration(steps)
				after := r.Reductions()
				times = parallel.Times{Busy: after.Busy - before.Busy, Blocked: after.Blocked - before.Blocked}
			}
		})
	}
	wg.Wait()
	return spent, times
}

// overlapConfig is a model whose gradient takes a while to cross a slow link.
func overlapConfig(t *testing.T, preset string) Config {
	t.Helper()
	c, err := LoadPreset(preset)
	if err != nil {
		t.Fatal(err)
	}
	c.Trainer.Steps, c.Trainer.Minutes, c.Trainer.Threads = 100, 0, 1
	c.Trainer.BatchSize, c.Parallel.BucketMiB = 8, 1
	return c
}

// TestOverlap: over a link that is slow but can be hidden, much of the reduction goes on
// beside the backward pass. Nothing of it would without overlap, so once in a few tries is
// enough: the machine may be busy with something else.
func TestOverlap(t *testing.T) {
	c := overlapConfig(t, "nano")
	c.Data.SequenceLength = 64
	c.Parallel.Data = 2
	const gigabyte = 1e9
	for range 5 {
		_, times := rehearseWorld(t, c, inproc.Link{BytesPerSecond: gigabyte / 2, Latency: time.Millisecond}, 3)
		t.Logf("reductions took %v a step, of which %.0f%% were hidden", times.Busy/3, 100*times.Hidden())
		if times.Hidden() >= 0.3 {
			return
		}
	}
	t.Error("less than 30% of the reduction is hidden, in each of 5 tries")
}

// TestOverlapFigures prints the figures of docs/parallel.md. It wants a quiet machine.
func TestOverlapFigures(t *testing.T) {
	if os.Getenv("JAMBALAYA_TEST_OVERLAP") == "" {
		t.Skip("set JAMBALAYA_TEST_OVERLAP to print the figures")
	}
	one := overlapConfig(t, "nano")
	two := one
	two.Trainer.BatchSize, two.Parallel.Data = 2*one.Trainer.BatchSize, 2
	for _, link := range []inproc.Link{{}, {BytesPerSecond: 250e6, Latency: time.Millisecond}, {BytesPerSecond: 125e6, Latency: time.Millisecond}} {
		for _, bucket := range []int{1, 4, 1024} {
			two.Parallel.BucketMiB = bucket
			alone, _ := rehearseWorld(t, one, inproc.Link{}, 5) // beside it, as machines drift
			spent, times := rehearseWorld(t, two, link, 8)
			t.Logf("link %4.0f MB/s, %4v, buckets of %4d MiB: step %v (alone %v, weak scaling %.0f%%), reductions %v a step, %.0f%% hidden",
				link.BytesPerSecond/1e6, link.Latency, bucket, spent.Round(time.Millisecond), alone.Round(time.Millisecond),
				100*alone.Seconds()/spent.Seconds(), (times.Busy / 8).Round(time.Millisecond), 100*times.Hidden())
		}
	}
}
