package parallel

import (
	"fmt"
	"sync"
	"time"
)

// Waits knows what the groups of a process are doing, for who looks after one that
// stands still. The zero value is ready; give it to all groups.
type Waits struct {
	mu     sync.Mutex
	groups []*communicator
}

// current is the operation that a group is in.
type current struct {
	kind  Kind
	op    Op
	since time.Time
}

func (w *Waits) add(g *communicator) {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups = append(w.groups, g)
}

// Longer describes the operations that have gone on for longer than d: which, for how
// long, and which rank has not answered.
func (w *Waits) Longer(d time.Duration) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, g := range w.groups {
		c := g.current.Load()
		if c == nil {
			continue
		}
		waited := time.Since(c.since)
		if waited < d {
			continue
		}
		text := fmt.Sprintf("%s %q of group %s in step %d on rank %d, for %v", c.kind, c.op.Name, g.name, c.op.Step, g.transport.Rank(), waited.Round(time.Second))
		if peer := g.peer.Load(); peer > 0 {
			text += fmt.Sprintf("; rank %d has not answered", peer-1)
		}
		list = append(list, text)
	}
	return list
}
