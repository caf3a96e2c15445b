package agent

import (
	"context"
	"fmt"
	"sync"
	"time"

	"jambalaya/parallel"
	"jambalaya/parallel/cluster"
)

// codeRetry is the exit code of a process that wants to be started again.
const codeRetry = 75

// training is one generation's work of this process.
type training struct {
	a          *agent
	generation uint64
	joining    context.Context // until the transport is there
	giveUp     context.CancelCauseFunc
	working    context.Context // until it is asked to save and stop
	finish     context.CancelFunc
	released   chan struct{} // closed when all ranks are ready
	over       chan struct{} // closed when it has ended

	mu        sync.Mutex
	transport parallel.Transport
	reason    error // of an abort
}

// begin starts training.
func (a *agent) begin(t cluster.Train) {
	n := &training{a: a, generation: t.Plan.Number, released: make(chan struct{}), over: make(chan struct{})}
	n.joining, n.giveUp = context.WithCancelCause(context.Background())
	n.working, n.finish = context.WithCancel(context.Background())
	a.train = n
	go func() {
		r := n.run(t)
		close(n.over)
		n.finish()
		n.giveUp(nil)
		a.post(func() {
			a.step(cluster.Trained{Generation: n.generation, Outcome: r.Outcome, Code: r.Code, Field: r.Field, Reason: r.Reason})
		})
	}()
}

func (n *training) run(t cluster.Train) Result {
	opt := &n.a.opt
	addresses := make([]string, len(t.Plan.Members))
	for rank, m := range t.Plan.Members {
		addresses[rank] = m.Address
	}
	id := parallel.Identity{Run: RunHash(opt.Settings.Run), Generation: n.generation}
	ctx, cancel := context.WithTimeout(n.joining, opt.Settings.BarrierTimeout)
	defer cancel()
	workers := make([]string, len(t.Plan.Members))
	for rank, m := range t.Plan.Members {
		workers[rank] = m.Worker
	}
	opt.Node.Expect(n.generation, workers)
	transport, err := opt.Node.Join(ctx, id, t.Rank, addresses)
	if err != nil {
		return Result{Outcome: cluster.OutcomeAborted, Reason: err.Error()}
	}
	defer transport.Close()
	if !n.joined(transport) {
		return Result{Outcome: cluster.OutcomeAborted, Reason: context.Cause(n.joining).Error()}
	}
	return opt.Train(n.working, &Assignment{
		Generation: t.Plan, Rank: t.Rank, Resume: t.Resume, Transport: transport,
		Ready: n.ready,
		Report: func(r cluster.Report) {
			n.a.post(func() { n.a.step(cluster.Progress{Report: r}) })
		},
		Fence: func() error { return cluster.Fence(opt.Dir, ".", n.generation, t.Plan.Term) },
	})
}

// joined keeps the transport, unless training has been aborted meanwhile.
func (n *training) joined(t parallel.Transport) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.reason != nil {
		t.Abort(n.reason)
		return false
	}
	n.transport = t
	return true
}

// ready meets the other ranks.
func (n *training) ready(ctx context.Context, step int64, hash string) error {
	n.a.post(func() { n.a.step(cluster.Loaded{Generation: n.generation, Step: step, Hash: hash}) })
	timer := time.NewTimer(n.a.opt.Settings.BarrierTimeout)
	defer timer.Stop()
	select {
	case <-n.released:
		return nil
	case <-n.joining.Done():
		return &parallel.AbortError{Rank: -1, Reason: context.Cause(n.joining).Error()}
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return fmt.Errorf("generation %d: %w: not all ranks were ready", n.generation, parallel.ErrTimeout)
	}
}

func (n *training) release(generation uint64) {
	if n.generation == generation {
		close(n.released)
	}
}

// abort ends training from outside.
func (n *training) abort(reason error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.reason != nil {
		return
	}
	n.reason = reason
	n.giveUp(reason)
	if n.transport != nil {
		n.transport.Abort(reason)
	}
	time.AfterFunc(n.a.patience(), func() { n.a.post(n.stuck) })
}

// patience is how long training may take to end once it is aborted: a long step, but not
// a device that hangs.
func (a *agent) patience() time.Duration { return max(time.Minute, 12*a.opt.Settings.AckTimeout) }

// stuck ends the process, if training has not ended long after it was aborted: whoever
// looks after it starts it again, which is the only cure for a device that hangs.
func (n *training) stuck() {
	select {
	case <-n.over:
		return
	default:
	}
	if n.a.ended == nil && n.a.train == n {
		n.a.ended = &Ended{Code: codeRetry, Reason: fmt.Sprintf("training does not leave generation %d, %v after that has ended (%v): this process has to be started again", n.generation, n.a.patience(), n.reason)}
	}
}

// Outcome sorts the errors of training into what they mean for the generation: nil is
// the end of the run, and an error of the transport that of the generation.
func Outcome(err error) cluster.Outcome {
	switch {
	case err == nil:
		return cluster.OutcomeDone
	case parallel.EndsGeneration(err):
		return cluster.OutcomeAborted
	}
	return cluster.OutcomeFailed
}
