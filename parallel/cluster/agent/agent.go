package agent

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync/atomic"
	"time"

	"jambalaya/internal/vfs"
	"jambalaya/parallel"
	"jambalaya/parallel/cluster"
	"jambalaya/parallel/rpc"
)

// Options are what an agent needs to know.
type Options struct {
	Settings cluster.Settings
	// Hello is what this worker says of itself. Incarnation, Address and Checkpoints
	// are filled in.
	Hello cluster.Hello
	// Process is unique to this start of the process.
	Process string
	// Dir is the run's directory, which all workers share: it holds the lease and
	// the log.
	Dir vfs.FS
	// Node is where other ranks and processes reach this one, at Address.
	Node    *rpc.Node
	Address string
	Gossip  *Gossip // nil: only the lease says who coordinates
	// Late says that the run is another machine's: this process coordinates only after
	// it has been with a coordinator.
	Late bool

	// Checkpoints lists those whose manifest this process can read.
	Checkpoints func() []cluster.Checkpoint
	// Train trains as a rank of a generation until that ends. The transport is
	// closed when it has returned. Cancelling the context asks it to save and stop.
	Train func(ctx context.Context, a *Assignment) Result
	// Say is told what the user may want to know. Not all agents have the same to say:
	// the one that coordinates speaks for the run.
	Say func(warning bool, text string)
}

// Assignment is a rank in a generation.
type Assignment struct {
	Generation *cluster.Generation
	Rank       int
	Resume     int64 // step of the newest checkpoint that all have, -1: none
	Transport  parallel.Transport
	// Ready says which step was loaded, with a hash of the state, and returns when all
	// ranks have said the same.
	Ready func(ctx context.Context, step int64, hash string) error
	// Report says how far training is. It does not block.
	Report func(cluster.Report)
	// Fence is asked right before a checkpoint is published.
	Fence func() error
}

// Result is how training ended.
type Result struct {
	Outcome cluster.Outcome
	Code    int // exit code of a failure
	Field   string
	Reason  string
}

// Ended is how the agent ended: the exit code that its process should have, and why.
type Ended struct {
	Code   int
	Reason string
	Alone  bool // no coordinator was ever found
}

// tick is how often the machines are told the time.
const tick = 50 * time.Millisecond

// agent runs the machines of a process. Its fields belong to the goroutine of Run;
// others post functions to it.
type agent struct {
	opt   Options
	began time.Time
	mail  chan func()
	quit  chan struct{} // closed when Run returns
	ended *Ended

	worker  *cluster.Worker
	link    *rpc.Session // with the coordinator
	dials   int          // counts; what comes of an earlier one than the last is of no interest
	seeking bool
	ever    atomic.Bool // was with a coordinator
	train   *training   // in progress

	keeper   *keeper
	boss     *cluster.Coordinator
	term     uint64                  // of boss
	yielded  bool                    // since this process last made a generation
	finished time.Duration           // when boss ended the run for all that it had; 0: not yet
	sessions map[string]*rpc.Session // of boss, by incarnation
	watchers int
}

// Run is a worker of a run, and its coordinator when it is this process's turn, until
// the run ends or the context does: then training saves and stops, and the agent
// leaves.
func Run(ctx context.Context, opt Options) Ended {
	a := &agent{opt: opt, began: time.Now(), mail: make(chan func(), 1024), quit: make(chan struct{}), sessions: map[string]*rpc.Session{}}
	opt.Node.OnSession(a.serve)
	a.keeper = a.keep()
	if opt.Gossip != nil {
		defer opt.Gossip.watch(a)()
	}
	log, err := cluster.ReadLog(opt.Dir, ".") // the keeper says what is wrong with it
	worker, first := cluster.NewWorker(opt.Settings, a.now(), opt.Hello.Worker, opt.Process, err == nil && log.Last() != nil)
	a.worker = worker
	a.perform(first)
	a.loop(ctx)
	close(a.quit)
	a.close()
	return *a.ended
}

func (a *agent) loop(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	asked := ctx.Done()
	for a.ended == nil {
		select {
		case f := <-a.mail:
			f()
		case <-ticker.C:
			a.step(cluster.Tick{})
			a.bossStep(cluster.Tick{})
		case <-asked:
			asked = nil
			a.step(cluster.Stop{})
		}
	}
}

// close gives the lease back and lets the other workers read what was said last.
func (a *agent) close() {
	if a.link != nil {
		a.link.Close()
	}
	patience := time.NewTimer(2 * time.Second)
	defer patience.Stop()
	for _, s := range a.sessions {
		go s.Close()
	}
	for len(a.sessions) > 0 {
		select {
		case f := <-a.mail: // the ends of sessions
			f()
		case <-patience.C:
			clear(a.sessions)
		}
	}
	a.keeper.stop()
}

func (a *agent) now() time.Duration { return time.Since(a.began) }

// post runs f in the agent's goroutine.
func (a *agent) post(f func()) {
	select {
	case a.mail <- f:
	case <-a.quit:
		select {
		case a.mail <- f: // close may wait for it
		default:
		}
	}
}

// say tells the user.
func (a *agent) say(s cluster.Say) { a.opt.Say(s.Warning, s.Text) }

// step gives the worker an event and does what it wants.
func (a *agent) step(e cluster.Event) {
	if a.ended == nil {
		a.perform(a.worker.Step(a.now(), e))
	}
}

func (a *agent) perform(actions []cluster.Action) {
	for _, action := range actions {
		switch action := action.(type) {
		case cluster.Seek:
			a.seeking = true
		case cluster.Connect:
			a.seeking = false
			a.connect(action)
		case cluster.Join:
			hello := a.opt.Hello
			hello.Incarnation, hello.Address, hello.Checkpoints = action.Incarnation, a.opt.Address, a.opt.Checkpoints()
			a.send(&cluster.Message{Kind: cluster.KindJoin, Term: action.Term, Hello: &hello})
		case cluster.Acknowledge:
			a.send(&cluster.Message{Kind: cluster.KindAck, Generation: action.Generation, Term: a.worker.Term(), Checkpoints: a.opt.Checkpoints()})
		case cluster.Send:
			a.send(action.Message)
		case cluster.Hangup:
			a.hangUp()
		case cluster.Train:
			a.begin(action)
		case cluster.Release:
			a.train.release(action.Generation)
		case cluster.Abort:
			a.train.abort(errors.New(action.Reason))
		case cluster.Finish:
			a.train.finish()
		case cluster.Say:
			a.say(action)
		case cluster.End:
			a.ended = &Ended{Code: action.Code, Reason: action.Reason, Alone: !a.ever.Load()}
			return
		}
	}
}

// send sends a message to the coordinator.
func (a *agent) send(m *cluster.Message) {
	if a.link == nil {
		return
	}
	text, err := m.Encode()
	if err != nil {
		a.opt.Say(true, err.Error())
		return
	}
	_ = a.link.Send(text) // if it fails, Recv does too
}

// connect opens the stream to a coordinator.
func (a *agent) connect(c cluster.Connect) {
	a.dials++
	dial := a.dials
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), a.opt.Settings.Lease)
		defer cancel()
		s, err := a.opt.Node.Open(ctx, c.Address)
		if err != nil {
			if errors.Is(err, rpc.ErrGone) {
				a.keeper.gone(c.Term)
			}
			// A moment, so that a coordinator that is not there is not asked all the time.
			time.Sleep(2 * tick)
			a.post(func() {
				if dial == a.dials {
					a.step(cluster.Lost{Reason: err.Error()})
				}
			})
			return
		}
		a.post(func() {
			if dial != a.dials {
				s.Break() // listen ends
				return
			}
			a.link = s
			a.ever.Store(true)
			a.keeper.with.Store(c.Term)
			a.step(cluster.Connected{Term: c.Term})
		})
		a.listen(s)
	}()
}

// listen passes on what the coordinator says.
func (a *agent) listen(s *rpc.Session) {
	for {
		m, err := receive(s)
		if err != nil {
			a.post(func() {
				if a.link == s {
					a.link = nil
					a.step(cluster.Lost{Reason: err.Error()})
				}
			})
			s.Break()
			return
		}
		a.post(func() {
			if a.link == s {
				a.step(cluster.Received{Message: m})
			}
		})
	}
}

func receive(s *rpc.Session) (*cluster.Message, error) {
	text, err := s.Recv()
	if err != nil {
		return nil, err
	}
	return cluster.Decode(text)
}

func (a *agent) hangUp() {
	if a.link != nil {
		a.link.Break()
		a.link = nil
	}
}

// RunHash is the number by which messages between ranks name a run.
func RunHash(run string) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, run)
	return h.Sum64()
}
