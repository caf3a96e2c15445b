package trainer

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
)

// lockedText is an output that may be looked at meanwhile.
type lockedText struct {
	mu   sync.Mutex
	text strings.Builder
	more chan struct{}
}

func (l *lockedText) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
	return l.text.Write(b)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// TestHang leaves a collective unanswered: the rank that waits names it, and who does
// not answer, with its stacks; the rank that does something else shows what.
func TestHang(t *testing.T) {
	t.Parallel()
	network := inproc.New(2, nil)
	id := parallel.Identity{Run: 1, Generation: 1}
	ctx, cancel := context.WithCancel(t.Context())
	var groups [2]parallel.Group
	var waits [2]parallel.Waits
	for rank := range groups {
		transport, err := network.Join(id, rank)
		if err != nil {
			t.Fatal(err)
		}
		defer transport.Close()
		if groups[rank], err = parallel.NewGroup(transport, "dense", []int{0, 1}, parallel.GroupOptions{Waits: &waits[rank]}); err != nil {
			t.Fatal(err)
		}
	}
	waiting := make(chan error, 1)
	go func() {
		waiting <- groups[0].AllReduce(ctx, parallel.Op{Step: 7, Name: "gradients"}, make([]float32, 8))
	}()
	for rank, want := range [][]string{
		{"no step for 200ms", `not answered: all-reduce "gradients" of group dense in step 7 on rank 0`, "rank 1 has not answered", "stacks of this worker:", "AllReduce"},
		{"no step for 200ms: this worker waits in no collective", "stacks of this worker:", "TestHang"},
	} {
		out := &lockedText{more: make(chan struct{}, 1)}
		w := newWatchdog(200*time.Millisecond, &waits[rank], out, nil)
		select {
		case <-out.more:
		case <-time.After(20 * time.Second):
			t.Error("nothing is said")
		}
		w.close()
		for _, text := range want {
			if !strings.Contains(out.String(), text) {
				t.Errorf("rank %d does not say %q: %.600s", rank, text, out)
			}
		}
	}
	cancel()
	if err := <-waiting; err == nil {
		t.Error("an all-reduce of one rank succeeds")
	}
	if left := waits[0].Longer(0); len(left) != 0 {
		t.Errorf("still waiting: %v", left)
	}
}

// TestNoHang: steps keep the watchdog quiet, and it tells of a standstill once.
func TestNoHang(t *testing.T) {
	t.Parallel()
	quiet := &lockedText{more: make(chan struct{}, 1)}
	w := newWatchdog(10*time.Second, &parallel.Waits{}, quiet, nil)
	w.last.Store(time.Now().Add(-9 * time.Second).UnixNano())
	w.alive()
	time.Sleep(1200 * time.Millisecond) // two looks
	w.close()
	if quiet.String() != "" {
		t.Errorf("it says %.200s", quiet)
	}
	out := &lockedText{more: make(chan struct{}, 1)}
	w = newWatchdog(100*time.Millisecond, &parallel.Waits{}, out, nil)
	<-out.more
	time.Sleep(500 * time.Millisecond)
	w.close()
	if n := strings.Count(out.String(), "no step for"); n != 1 {
		t.Errorf("told %d times", n)
	}
}
