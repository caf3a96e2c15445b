package scale

import (
	"math"
	"testing"

	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/parallel"
	"jambalaya/trainer"
)

func preset(t *testing.T, name string) model.Config {
	t.Helper()
	cfg, err := trainer.LoadPreset(name)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Model
}

// slowLink is a machine on which the network costs round numbers: a second for a
// million elements of gradient, in fp32.
func slowLink() Machine {
	return Machine{Copy: 1e12, Pass: 1, Rate: 1e12, Within: Link{BytesPerSecond: 4e6}, Between: Link{BytesPerSecond: 4e6}, RanksPerNode: 1 << 20}
}

func TestReductionHides(t *testing.T) {
	t.Parallel()
	// Two gradients of a million elements; the backward pass goes on for three
	// seconds after the first and ends with the second.
	trace := Trace{Dense: 2e6, Events: []Event{{Seconds: 5, Dense: 1e6}, {Seconds: 3}, {Seconds: 0, Dense: 1e6}}}
	for _, c := range []struct {
		name   string
		job    Job
		total  float64
		hidden float64
	}{
		{"alone", Job{Mesh: parallel.Mesh{Data: 1, Expert: 1}}, 16, 1},
		// An all-reduce of two ranks moves the data once: a second each.
		{"two ranks", Job{Mesh: parallel.Mesh{Data: 2, Expert: 1}}, 17, 0.5},
		{"two columns", Job{Mesh: parallel.Mesh{Data: 1, Expert: 2}}, 17, 0.5},
		// Four ranks move 1.5 times the data.
		{"four ranks", Job{Mesh: parallel.Mesh{Data: 4, Expert: 1}}, 17.5, 0.5},
		// In one bucket nothing leaves early.
		{"one bucket", Job{Mesh: parallel.Mesh{Data: 2, Expert: 1}, Bucket: 2e6}, 18, 0},
		// Only the last micro-batch completes gradients.
		{"accumulation", Job{Mesh: parallel.Mesh{Data: 2, Expert: 1}, Accumulation: 3}, 25, 0.5},
	} {
		c.job.Model.NumExperts = 2
		c.job.Accumulation = max(2, c.job.Accumulation) // gradients in fp32
		if c.job.Bucket == 0 {
			c.job.Bucket = 1e6
		}
		s, err := Simulate(trace, c.job, slowLink())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Total() - s.Update; math.Abs(got-c.total) > 1e-9 || math.Abs(s.Hidden()-c.hidden) > 1e-9 {
			t.Errorf("%s: %v s with %v hidden, want %v and %v", c.name, got, s.Hidden(), c.total, c.hidden)
		}
	}
}

// TestExchangeGoesFirst: the computation waits for rows, the reduction does not run
// meanwhile, and gradients of experts are reduced along the data axis alone.
func TestExchangeGoesFirst(t *testing.T) {
	t.Parallel()
	trace := Trace{Expert: 4e6, Events: []Event{{Seconds: 1, Expert: 4e6}, {Seconds: 1, Rows: 8e6}, {Seconds: 1}}}
	job := Job{Mesh: parallel.Mesh{Data: 2, Expert: 2}, Accumulation: 2, Bucket: 1e6}
	job.Model.NumExperts = 4
	s, err := Simulate(trace, job, slowLink())
	if err != nil {
		t.Fatal(err)
	}
	// Half of 8 MB leaves the rank, twice: two seconds. Two million elements of its own
	// experts are reduced with one other rank: two seconds, and both are hidden.
	if s.Exchange != 2 || s.Reduction != 2 || s.Exposed != 0 {
		t.Errorf("exchange %v, reduction %v, exposed %v", s.Exchange, s.Reduction, s.Exposed)
	}
	job.Mesh = parallel.Mesh{Data: 1, Expert: 3}
	if _, err := Simulate(trace, job, slowLink()); err == nil {
		t.Error("3 columns for 4 experts were accepted")
	}
}

// TestPlan lays out a model whose parts can be counted by hand.
func TestPlan(t *testing.T) {
	t.Parallel()
	cfg := preset(t, "nano")
	job := Job{Model: cfg, Mesh: parallel.Mesh{Data: 2, Expert: 2}, Batch: 2, Length: 128, Accumulation: 1, Bucket: 1e6}
	trace, err := Plan(job, H200())
	if err != nil {
		t.Fatal(err)
	}
	if got, want := trace.Dense+trace.Expert, cfg.Counts().Total; got != want {
		t.Errorf("%d parameters, the model has %d", got, want)
	}
	var rows, elements float64
	exchanges := 0
	for _, e := range trace.Events {
		elements += e.Dense + e.Expert
		rows += e.Rows
		if e.Rows > 0 {
			exchanges++
		}
	}
	if elements != float64(trace.Dense+trace.Expert) {
		t.Errorf("gradients of %v elements become final, want %v", elements, trace.Dense+trace.Expert)
	}
	// Four MoE layers send rows out and back, forward and backward, in bf16.
	if want := float64(4 * 4 * 2 * 128 * cfg.NumExpertsPerTok * cfg.HiddenSize * 2); exchanges != 16 || rows != want {
		t.Errorf("%d exchanges of %v bytes, want 16 of %v", exchanges, rows, want)
	}
	full, err := Simulate(trace, job, H200())
	if err != nil {
		t.Fatal(err)
	}
	job.Zero1 = true
	sharded, err := Simulate(trace, job, H200())
	if err != nil {
		t.Fatal(err)
	}
	want := full.Memory.Optimiser - int64(momentBytes*(float64(trace.Dense)*3/4+float64(trace.Expert)/2/2))
	if got := sharded.Memory.Optimiser; math.Abs(float64(got-want)) > 16 {
		t.Errorf("ZeRO-1 keeps %d bytes, want %d", got, want)
	}
}

// TestRecompute: what is computed again costs time, saves memory, and exchanges again.
func TestRecompute(t *testing.T) {
	t.Parallel()
	job := Job{Model: preset(t, "nano"), Mesh: parallel.Mesh{Data: 1, Expert: 1}, Batch: 2, Length: 512, Accumulation: 1, Bucket: 1e6}
	kept, err := Plan(job, H200())
	if err != nil {
		t.Fatal(err)
	}
	job.Recompute = engine.RecomputeLayer
	again, err := Plan(job, H200())
	if err != nil {
		t.Fatal(err)
	}
	if again.Activations >= kept.Activations || len(again.Events) <= len(kept.Events) {
		t.Errorf("recomputed: %d bytes in %d calls, kept: %d bytes in %d calls", again.Activations, len(again.Events), kept.Activations, len(kept.Events))
	}
}

func TestLinks(t *testing.T) {
	t.Parallel()
	m := Machine{Within: Link{8e9, 1e-6}, Between: Link{2e9, 9e-6}, RanksPerNode: 2}
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"scatter on a node", m.scatter(8e9, 2), 0.5 + 1e-6},
		{"scatter over nodes: both cards at once", m.scatter(8e9, 4), 1.5 + 3*5e-6},
		{"exchange on a node", m.exchange(8e9, 2), 0.5 + 0.5e-6},
		{"exchange over nodes: half of it leaves", m.exchange(8e9, 4), 2 + 1.5*9e-6},
		{"alone", m.scatter(8e9, 1) + m.exchange(8e9, 1), 0},
	} {
		if math.Abs(c.got-c.want) > 1e-12 {
			t.Errorf("%s: %v s, want %v", c.name, c.got, c.want)
		}
	}
}
