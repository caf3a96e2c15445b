package scale

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"jambalaya/internal/engine"
	"jambalaya/internal/human"
	"jambalaya/model"
	"jambalaya/parallel"
)

// Sweep is a series of worlds that train one model with one global batch.
type Sweep struct {
	Name      string
	Model     model.Config
	Machine   Machine
	Worlds    []int
	Expert    int // columns of the mesh
	Length    int
	Batch     int // sequences of a step, of all ranks together
	Micro     int // sequences of a micro-batch of one rank
	Recompute engine.Recompute
	Zero1     bool
	BucketMiB int
}

// Row is the prediction for a world.
type Row struct {
	Name    string  `json:"name"`
	Ranks   int     `json:"ranks"`
	Data    int     `json:"data"`
	Expert  int     `json:"expert"`
	MS      float64 `json:"ms"`
	Tokens  float64 `json:"tokens_per_s"`
	PerRank float64 `json:"tokens_per_s_per_rank"`
	MFU     float64 `json:"mfu"` // model operations over the rate of matrix products
	Compute float64 `json:"compute_ms"`
	// Waiting for tokens of experts, for gradients and for weights, and the optimiser.
	Exchange float64 `json:"exchange_ms"`
	Exposed  float64 `json:"exposed_reduction_ms"`
	Hidden   float64 `json:"hidden_reduction"`
	Gather   float64 `json:"gather_ms"`
	Update   float64 `json:"update_ms"`
	States   int64   `json:"state_bytes"`
	Acts     int64   `json:"activation_bytes"`
	Exch     int64   `json:"exchange_bytes"`
	Peak     int64   `json:"peak_bytes"`
	Fits     bool    `json:"fits"`
	Bound    string  `json:"bound"`
}

// Table is what a sweep predicts.
type Table struct {
	Sweep Sweep
	Rows  []Row
}

// Run predicts every world of a sweep.
func (s Sweep) Run() (Table, error) {
	t := Table{Sweep: s}
	job := Job{Model: s.Model, Batch: s.Micro, Length: s.Length, Recompute: s.Recompute, Zero1: s.Zero1, Bucket: float64(s.BucketMiB << 20 / 4)}
	for _, n := range s.Worlds {
		if n%s.Expert != 0 || s.Batch%(n*s.Micro) != 0 {
			return t, fmt.Errorf("scale: %d ranks: want a multiple of %d columns that divides %d sequences in micro-batches of %d", n, s.Expert, s.Batch, s.Micro)
		}
		job.Mesh = parallel.Mesh{Data: n / s.Expert, Expert: s.Expert}
		job.Accumulation = s.Batch / (n * s.Micro)
		trace, err := Plan(job, s.Machine)
		if err != nil {
			return t, err
		}
		step, err := Simulate(trace, job, s.Machine)
		if err != nil {
			return t, err
		}
		t.Rows = append(t.Rows, s.row(job, step))
	}
	return t, nil
}

func (s Sweep) row(j Job, step Step) Row {
	seconds, n, m := step.Total(), j.Mesh.Size(), step.Memory
	tokens := float64(step.Tokens) / seconds
	flops := s.Model.FLOPs(s.Length).Training()
	return Row{
		Name: "scale " + s.Name, Ranks: n, Data: j.Mesh.Data, Expert: j.Mesh.Expert, MS: 1e3 * seconds, Tokens: tokens, PerRank: tokens / float64(n),
		MFU: flops * tokens / float64(n) / s.Machine.Rate, Compute: 1e3 * step.Compute, Exchange: 1e3 * step.Exchange, Exposed: 1e3 * step.Exposed,
		Hidden: step.Hidden(), Gather: 1e3 * step.Gather, Update: 1e3 * step.Update,
		States: m.Weights + m.Gradients + m.Optimiser, Acts: m.Activations, Exch: m.Exchange, Peak: m.Total(), Fits: m.Total() <= s.Machine.Memory, Bound: step.Bound(),
	}
}

// Print writes the table for people.
func (t Table) Print(w io.Writer) error {
	s := t.Sweep
	fmt.Fprintf(w, "%s on %s, predicted: steps of %d x %d tokens, micro-batches of %d, buckets of %d MiB\n\n", s.Name, s.Machine.Name, s.Batch, s.Length, s.Micro, s.BucketMiB)
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(tab, "ranks\tmesh\tms/step\ttokens/s\ta rank\tMFU\tcompute\texchange\treduction\thidden\tgather\toptimiser\tstates\tactivations\tpeak\tfits\tbound by\t")
	for _, r := range t.Rows {
		share := func(ms float64) string { return fmt.Sprintf("%.1f%%", 100*ms/r.MS) }
		fits := "yes"
		if !r.Fits {
			fits = "no"
		}
		fmt.Fprintf(tab, "%d\t%dx%d\t%.0f\t%s\t%s\t%.0f%%\t%s\t%s\t%s\t%.0f%%\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t\n", r.Ranks, r.Data, r.Expert, r.MS, human.Count(r.Tokens), human.Count(r.PerRank),
			100*r.MFU, share(r.Compute), share(r.Exchange), share(r.Exposed), 100*r.Hidden, share(r.Gather), share(r.Update),
			human.Bytes(r.States), human.Bytes(r.Acts), human.Bytes(r.Peak), fits, r.Bound)
	}
	return tab.Flush()
}

// JSON writes an object a line.
func (t Table) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, r := range t.Rows {
		if err := enc.Encode(r); err != nil {
			return err
		}
	}
	return nil
}
