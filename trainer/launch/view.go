package launch

import (
	"fmt"
	"os"
	"sync"

	"jambalaya/internal/human"
	"jambalaya/internal/term"
	"jambalaya/parallel/cluster"
)

// view is what the launcher shows: the lines of all workers, and one bar for the run.
type view struct {
	out *os.File
	mu  sync.Mutex
	bar *term.Progress

	steps      int64    // of the run
	fields     []string // of the last status before the last step
	generation uint64   // whose steps the bar shows
	step       int64    // that it shows
}

func newView(out *os.File) *view { return &view{out: out} }

func (v *view) printf(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bar != nil {
		v.bar.Logf(format, args...)
		return
	}
	fmt.Fprintf(v.out, format+"\n", args...)
}

// show takes how the run stands.
func (v *view) show(s cluster.Status) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if s.Steps == 0 || s.Phase != cluster.PhaseRunning {
		if v.bar != nil && s.Phase != cluster.PhaseEnded && v.step < v.steps {
			v.bar.Set(v.step, waiting(s))
		}
		return
	}
	if v.bar == nil {
		v.bar = term.NewProgress(v.out, term.Options{Label: "train", Start: s.Step, Total: s.Steps})
	} else if v.generation != s.Generation {
		v.bar.Restart(s.Step)
	}
	if s.Step < s.Steps || v.fields == nil { // after the last step workers leave one by one
		v.fields = fields(s)
	}
	v.steps, v.generation, v.step = s.Steps, s.Generation, s.Step
	v.bar.Set(s.Step, v.fields...)
}

// complete shows a run that has come to its end: the coordinator may have gone before it
// said so.
func (v *view) complete() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bar != nil {
		v.bar.Set(v.steps, v.fields...)
	}
}

// waiting is what the run waits for between two generations.
func waiting(s cluster.Status) string {
	if s.Phase == cluster.PhaseGathering {
		return fmt.Sprintf("%d of %d workers have joined", len(s.Workers), s.Wanted)
	}
	return fmt.Sprintf("generation %d of %d/%d workers loads", s.Generation, s.Mesh.Size(), s.Wanted)
}

// fields are what stands beside the bar, the most important first.
func fields(s cluster.Status) []string {
	var each []string
	total, loss, imbalance := 0.0, 0.0, 0.0
	members := 0
	for _, w := range s.Workers {
		if w.Rank < 0 {
			each = append(each, w.Worker+" spare")
			continue
		}
		members++
		total += w.Report.Tokens
		imbalance = max(imbalance, w.Report.Imbalance)
		if w.Rank == 0 {
			loss = w.Report.Loss
		}
		text := fmt.Sprintf("%d: %s", w.Rank, human.Count(w.Report.Tokens))
		if w.Straggler {
			text += " STRAGGLER"
		}
		each = append(each, text)
	}
	list := []string{fmt.Sprintf("loss %.3f", loss), human.Count(total) + " tokens/s",
		fmt.Sprintf("generation %d of %d/%d workers", s.Generation, members, s.Wanted)}
	if imbalance > 0 {
		list = append(list, fmt.Sprintf("busiest expert %.2fx", imbalance))
	}
	const most = 16
	return append(list, each[:min(len(each), most)]...)
}

func (v *view) close() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.bar != nil {
		v.bar.Close()
	}
}
