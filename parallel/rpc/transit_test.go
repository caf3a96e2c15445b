package rpc

import (
	"testing"
	"time"
)

// TestTransit counts the time for which messages are under way, whatever the sender's
// clock says, and whether or not it wraps.
func TestTransit(t *testing.T) {
	t.Parallel()
	for _, offset := range []uint32{0, 12345, 1 << 31, 1<<32 - 300_000} {
		var x transit
		pass := func(sent, arrived time.Duration) {
			x.arrived(clock(epoch.Add(sent))+offset, epoch.Add(arrived))
		}
		ms := time.Millisecond
		pass(100*ms, 101*ms) // the fastest
		if x.total() != 0 {
			t.Errorf("offset %d: the fastest took %v", offset, x.total())
		}
		pass(200*ms, 251*ms) // 50 ms longer
		pass(210*ms, 301*ms) // at the same time, until 50 ms later
		if got := x.total(); got != 100*ms {
			t.Errorf("offset %d: %v, not 100 ms", offset, got)
		}
		x.taken(epoch.Add(500 * ms)) // nobody read until then
		pass(310*ms, 502*ms)
		if got := x.total(); got != 102*ms {
			t.Errorf("offset %d: %v, not 102 ms: who does not read is not a slow network", offset, got)
		}
	}
}
