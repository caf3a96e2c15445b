package trainer

import (
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"jambalaya/parallel"
)

// watchdog says what a run waits for that has not taken a step for a while. All ranks
// of a step stand still together, and so each of them says so.
type watchdog struct {
	patience time.Duration
	waits    *parallel.Waits
	out      io.Writer
	still    func(Standstill) // nil: nobody else is told
	last     atomic.Int64     // when it was last alive, in nanoseconds
	done     chan struct{}
	ended    chan struct{}
}

// newWatchdog starts one; without patience it does nothing.
func newWatchdog(patience time.Duration, waits *parallel.Waits, out io.Writer, still func(Standstill)) *watchdog {
	w := &watchdog{patience: patience, waits: waits, out: out, still: still, done: make(chan struct{}), ended: make(chan struct{})}
	w.alive()
	if patience == 0 {
		close(w.ended)
		return w
	}
	go w.run()
	return w
}

// alive says that the run gets on.
func (w *watchdog) alive() {
	if w != nil {
		w.last.Store(time.Now().UnixNano())
	}
}

func (w *watchdog) close() {
	close(w.done)
	<-w.ended
}

func (w *watchdog) run() {
	defer close(w.ended)
	ticker := time.NewTicker(w.patience / 20)
	defer ticker.Stop()
	told := int64(0) // of which standstill it was told
	for {
		select {
		case <-w.done:
			return
		case <-ticker.C:
		}
		last := w.last.Load()
		since := time.Since(time.Unix(0, last))
		if w.still != nil && since >= w.patience/2 {
			w.still(w.standstill(since))
		}
		if since >= w.patience && told != last {
			told = last
			w.tell()
		}
	}
}

// Standstill is a rank that has taken no step for a while.
type Standstill struct {
	Since     time.Duration // the last step
	Operation string        // collective that it waits in for longest; "": none
	Waiting   time.Duration
}

func (w *watchdog) standstill(since time.Duration) Standstill {
	s := Standstill{Since: since}
	for _, wait := range w.waits.Longer(w.patience / 4) {
		if wait.For > s.Waiting {
			s.Operation, s.Waiting = wait.Operation(), wait.For
		}
	}
	return s
}

// maxStacks bounds what is printed of the stacks.
const maxStacks = 1 << 20

// tell prints the collectives that are not answered and the stacks of all goroutines.
func (w *watchdog) tell() {
	var b strings.Builder
	fmt.Fprintf(&b, "warning: no step for %v", w.patience)
	waits := w.waits.Longer(w.patience / 2)
	if len(waits) == 0 {
		b.WriteString(": this worker waits in no collective; a step may take that long (see trainer.hang_seconds)")
	}
	for _, wait := range waits {
		b.WriteString("\nwarning: not answered: " + wait.String())
	}
	stacks := make([]byte, maxStacks)
	stacks = stacks[:runtime.Stack(stacks, true)]
	fmt.Fprintf(&b, "\nstacks of this worker:\n%s\n", stacks)
	_, _ = io.WriteString(w.out, b.String()) // there is nobody else to tell
}
