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

// Wait is an operation that goes on.
type Wait struct {
	Kind  Kind
	Op    Op
	Group string
	Rank  int // that waits, in the world
	Peer  int // that it waits for at the moment, -1: none
	For   time.Duration
}

// Operation names what is waited in.
func (w Wait) Operation() string {
	return fmt.Sprintf("%s %q of group %s in step %d", w.Kind, w.Op.Name, w.Group, w.Op.Step)
}

// String says which operation, for how long, and which rank has not answered.
func (w Wait) String() string {
	text := fmt.Sprintf("%s on rank %d, for %v", w.Operation(), w.Rank, w.For.Round(time.Second))
	if w.Peer >= 0 {
		text += fmt.Sprintf("; rank %d has not answered", w.Peer)
	}
	return text
}

// Longer lists the operations that have gone on for longer than d.
func (w *Waits) Longer(d time.Duration) []Wait {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Wait
	for _, g := range w.groups {
		c := g.current.Load()
		if c == nil {
			continue
		}
		if waited := time.Since(c.since); waited >= d {
			list = append(list, Wait{c.kind, c.op, g.name, g.transport.Rank(), int(g.peer.Load()) - 1, waited})
		}
	}
	return list
}
