package rpc

import (
	"sync"
	"time"
)

// lowWindow is for how long the fastest message counts: long enough for one that found
// the way free, short enough for clocks that go differently.
const lowWindow = time.Minute

// transit measures how long a rank's messages are under way. The clocks of two machines
// need not agree: what counts is how much longer than the fastest one a message takes.
type transit struct {
	mu    sync.Mutex
	lag   uint32 // of the fastest message of this window, by both clocks; see low
	prior uint32 // of the window before
	ends  time.Time
	begun bool
	free  time.Time // when nothing was under way, or nobody took it
	sum   time.Duration
}

var epoch = time.Now()

// clock is this process's, in microseconds. It wraps in 71 minutes.
func clock(at time.Time) uint32 { return uint32(at.Sub(epoch).Microseconds()) }

// low is the shorter of two lags. Their difference is right although each of them wraps,
// and is off by the difference of the clocks.
func low(a, b uint32) uint32 {
	if int32(a-b) < 0 {
		return a
	}
	return b
}

// arrived counts a message that was sent at a time of the sender's clock.
func (t *transit) arrived(sent uint32, now time.Time) {
	if sent == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	lag := clock(now) - sent
	switch {
	case !t.begun:
		t.lag, t.prior, t.begun, t.ends, t.free = lag, lag, true, now.Add(lowWindow), now
	case now.After(t.ends):
		t.prior, t.lag, t.ends = t.lag, lag, now.Add(lowWindow)
	default:
		t.lag = low(t.lag, lag)
	}
	longer := time.Duration(int32(lag-low(t.lag, t.prior))) * time.Microsecond
	// Of two messages that were under way at the same time, the time counts once.
	if since := now.Sub(t.free); longer > since {
		longer = since
	}
	t.sum += max(longer, 0)
	t.free = now
}

// taken says that the message has been taken, until when no other one could arrive.
func (t *transit) taken(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.free.Before(now) {
		t.free = now
	}
}

func (t *transit) total() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.sum
}

// UnderWay implements parallel.Timed.
func (m *member) UnderWay() []time.Duration {
	all := make([]time.Duration, len(m.transits))
	for i := range m.transits {
		all[i] = m.transits[i].total()
	}
	return all
}
