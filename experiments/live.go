package experiments

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"jambalaya/internal/human"
	"jambalaya/internal/term"
	"jambalaya/trainer/report"
)

// liveView shows the progress of the whole grid. It follows the metrics files of
// the cells, so that it shows what other processes do as well.
type liveView struct {
	runner *runner
	bar    *term.Progress
	steps  int64 // of a cell
	stop   chan struct{}
	done   sync.WaitGroup
}

const liveEvery = 500 * time.Millisecond

func newLiveView(r *runner) *liveView {
	v := &liveView{runner: r, steps: int64(r.grid.Cells[0].Config.Trainer.Steps), stop: make(chan struct{})}
	start, _, _, _ := v.look()
	v.bar = term.NewProgress(r.opt.Stdout, term.Options{Label: "grid", Start: start, Total: v.steps * int64(len(r.grid.Cells))})
	v.done.Go(func() {
		tick := time.NewTicker(liveEvery)
		defer tick.Stop()
		for {
			select {
			case <-v.stop:
				v.update()
				return
			case <-tick.C:
				v.update()
			}
		}
	})
	return v
}

func (v *liveView) close() {
	close(v.stop)
	v.done.Wait()
	v.bar.Close()
}

func (v *liveView) logf(format string, args ...any) { v.bar.Logf(format, args...) }

// update shows the steps of all cells, and what the running ones are at; their
// losses come last, where a narrow terminal has no room.
func (v *liveView) update() {
	steps, rate, running, losses := v.look()
	v.runner.mu.Lock()
	done, failed := len(v.runner.results), len(v.runner.failed)
	v.runner.mu.Unlock()
	fields := []string{fmt.Sprintf("%d/%d cells", done, len(v.runner.grid.Cells)), human.Count(rate) + " tokens/s"}
	if failed > 0 {
		fields = append(fields, fmt.Sprintf("%d failed", failed))
	}
	fields = append(fields, running...)
	if len(losses) > 0 {
		fields = append(fields, "loss "+strings.Join(losses, " "))
	}
	v.bar.Set(steps, fields...)
}

// look adds up the steps of all cells.
func (v *liveView) look() (steps int64, rate float64, running, losses []string) {
	r := v.runner
	for _, c := range r.grid.Cells {
		r.mu.Lock()
		done, active := r.results[c] != nil, r.running[c]
		r.mu.Unlock()
		if done {
			steps += v.steps
			continue
		}
		l, ok := lastLine(filepath.Join(r.dir(c), metricsFile))
		if !ok {
			continue
		}
		steps += l.Step
		if active {
			rate += float64(l.TokensPerS)
			running = append(running, fmt.Sprintf("%s %d%%", c.Name, 100*l.Step/v.steps))
			if l.Train != nil {
				losses = append(losses, fmt.Sprintf("%.2f", l.CELoss))
			}
		}
	}
	return steps, rate, running, losses
}

// lastLine returns the last complete line of a metrics file.
func lastLine(name string) (l report.Line, ok bool) {
	const tail = 1 << 16
	f, err := os.Open(name)
	if err != nil {
		return l, false
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err != nil || size == 0 {
		return l, false
	} else if _, err := f.Seek(max(0, size-tail), io.SeekStart); err != nil {
		return l, false
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return l, false
	}
	end := bytes.LastIndexByte(text, '\n')
	if end < 0 {
		return l, false
	}
	start := bytes.LastIndexByte(text[:end], '\n') + 1
	return l, json.Unmarshal(text[start:end], &l) == nil
}
