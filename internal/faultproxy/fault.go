package faultproxy

import (
	"net"
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

// way is one direction between a proxy and an address.
type way struct {
	mu     sync.Mutex
	fault  Fault
	change chan struct{} // closed, and replaced, when the fault changes
	free   time.Time     // when the link has sent what it was given
	chance *prng.Rand
}

// ways are those of a proxy, two for each address that peers come from.
type ways struct {
	seed   uint64
	prefix string // of the names that the chances have

	mu    sync.Mutex
	all   [2]Fault // forward, backward, of who has not come yet
	known map[string][2]*way
}

func newWays(seed uint64, prefix string) *ways {
	return &ways{seed: seed, prefix: prefix, known: map[string][2]*way{}}
}

// of returns the ways of who comes from an address.
func (w *ways) of(from net.IP) (forward, backward *way) {
	w.mu.Lock()
	defer w.mu.Unlock()
	pair := w.from(from.String())
	return pair[0], pair[1]
}

func (w *ways) from(host string) [2]*way {
	pair, ok := w.known[host]
	if !ok {
		for i, name := range []string{"forward", "backward"} {
			pair[i] = newWay(w.seed, w.prefix+name+" "+host)
			pair[i].set(w.all[i])
		}
		w.known[host] = pair
	}
	return pair
}

// set changes the faults of who comes from a host, "" for all.
func (w *ways) set(host string, d Direction, f Fault) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i, one := range []Direction{Forward, Backward} {
		switch {
		case d&one == 0:
		case host != "":
			w.from(host)[i].set(f)
		default:
			w.all[i] = f
			for _, pair := range w.known {
				pair[i].set(f)
			}
		}
	}
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
	twice = datagram && f.Twice > 0 && w.chance.Float64() < f.Twice
	return time.Now().Add(f.Delay), twice, true
}

// sent says when a link of its rate has sent a piece. It is asked right before the piece
// goes on, so that several connections take turns.
func (w *way) sent(bytes int) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.fault.Rate <= 0 {
		return now
	}
	if w.free.Before(now) {
		w.free = now
	}
	w.free = w.free.Add(time.Duration(float64(bytes) / float64(w.fault.Rate) * float64(time.Second)))
	return w.free
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
