package faultproxy

import (
	"sync"
	"time"

	"jambalaya/internal/prng"
)

// Fault is what happens to what passes in a direction. The zero value is none.
type Fault struct {
	Delay time.Duration // of each piece; pieces overlap
	Rate  int64         // bytes a second; 0: no limit
	Stall bool          // nothing passes
	Flip  float64       // chance of a byte to have one bit changed
	Drop  float64       // chance of a datagram to be lost
	Twice float64       // chance of a datagram to come twice
}

// Direction is where something goes.
type Direction int

// Directions, seen from who connects.
const (
	Forward  Direction = 1 << iota // to the target
	Backward                       // from the target
	Both     = Forward | Backward
)

// way is one direction of a proxy.
type way struct {
	mu     sync.Mutex
	fault  Fault
	change chan struct{} // closed, and replaced, when the fault changes
	free   time.Time     // when the link has sent what it was given
	chance *prng.Rand
}

func newWay(seed uint64, name string) *way {
	return &way{change: make(chan struct{}), chance: prng.New(seed, "faultproxy/"+name)}
}

func (w *way) set(f Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = f
	w.free = time.Time{}
	close(w.change)
	w.change = make(chan struct{})
}

// pass changes a piece of data and says when it is due at the other end. ok is false
// for a piece that is lost.
func (w *way) pass(data []byte, datagram bool) (due time.Time, twice, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.fault
	if datagram && f.Drop > 0 && w.chance.Float64() < f.Drop {
		return due, false, false
	}
	if f.Flip > 0 {
		for i := range data {
			if w.chance.Float64() < f.Flip {
				data[i] ^= 1 << w.chance.IntN(8)
			}
		}
	}
	due = time.Now()
	if f.Rate > 0 {
		if w.free.Before(due) {
			w.free = due
		}
		w.free = w.free.Add(time.Duration(float64(len(data)) / float64(f.Rate) * float64(time.Second)))
		due = w.free
	}
	twice = datagram && f.Twice > 0 && w.chance.Float64() < f.Twice
	return due.Add(f.Delay), twice, true
}

// wait returns when a piece that is due at a time may go on: not before, and not during
// a stall. It returns false if the proxy is closed first.
func (w *way) wait(due time.Time, closed <-chan struct{}) bool {
	for {
		w.mu.Lock()
		stalled, change := w.fault.Stall, w.change
		w.mu.Unlock()
		if left := time.Until(due); !stalled && left <= 0 {
			return true
		} else if !stalled {
			timer := time.NewTimer(left)
			select {
			case <-timer.C:
			case <-change:
			case <-closed:
			}
			timer.Stop()
		} else {
			select {
			case <-change:
			case <-closed:
			}
		}
		select {
		case <-closed:
			return false
		default:
		}
	}
}

// piece is data under way.
type piece struct {
	data []byte
	due  time.Time
}
