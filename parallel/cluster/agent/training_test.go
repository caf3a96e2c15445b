package agent

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestStuck: a process whose training does not end after an abort asks to be started
// again, and one whose training ends goes on.
func TestStuck(t *testing.T) {
	for _, ends := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a := &agent{mail: make(chan func(), 1), quit: make(chan struct{})}
			n := &training{a: a, generation: 3, over: make(chan struct{})}
			_, n.giveUp = context.WithCancelCause(t.Context())
			a.train = n
			n.abort(errors.New("worker 1 is gone"))
			if ends {
				close(n.over)
			}
			began := time.Now()
			(<-a.mail)()
			switch {
			case ends && a.ended != nil:
				t.Errorf("it ends although training has: %v", a.ended)
			case !ends && (a.ended == nil || a.ended.Code != codeRetry || !strings.Contains(a.ended.Reason, "generation 3") || !strings.Contains(a.ended.Reason, "worker 1 is gone")):
				t.Errorf("it ended with %v", a.ended)
			case time.Since(began) != a.patience():
				t.Errorf("it was looked at after %v", time.Since(began))
			}
		})
	}
}
