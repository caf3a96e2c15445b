package chaos

import (
	"context"
	"sync"
	"time"
)

// awake is a clock that stands still while everything here does: a laptop that sleeps, or
// somebody who stops all processes of the scorecard to measure something else.
type awake struct {
	mu   sync.Mutex
	seen time.Time
	sum  time.Duration
	gaps int
}

const (
	awakeTick = 100 * time.Millisecond
	// asleep is a gap between two ticks that no busy machine makes.
	asleep = 3 * time.Second
)

// newAwake starts one, which ends with the process.
func newAwake() *awake {
	a := &awake{seen: time.Now()}
	go func() {
		for range time.Tick(awakeTick) {
			a.now()
		}
	}()
	return a
}

// now is how long the clock has gone.
func (a *awake) now() time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if gap := now.Sub(a.seen); gap < asleep {
		a.sum += gap
	} else {
		a.gaps++
	}
	a.seen = now
	return a.sum
}

// slept counts how often everything stood still. What was measured meanwhile is of no use.
func (a *awake) slept() int {
	a.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.gaps
}

// pause waits, unless the context ends.
func (a *awake) pause(ctx context.Context, d time.Duration) error {
	for end := a.now() + d; ; {
		left := end - a.now()
		if left <= 0 {
			return nil
		}
		if err := pause(ctx, min(left, awakeTick)); err != nil {
			return err
		}
	}
}
