package agent

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"jambalaya/internal/vfs"
	"jambalaya/parallel"
	"jambalaya/parallel/cluster"
	"jambalaya/parallel/rpc"
)

// Exit codes, as those of the commands.
const (
	codeOK     = 0
	codeConfig = 78
)

// patience is what a test allows for anything that must happen.
const patience = time.Minute

// crew is a run whose workers are all in this process: real agents that talk over
// loopback, with the run's directory in memory and training that only counts steps.
type crew struct {
	t        *testing.T
	disk     *vfs.Mem
	settings cluster.Settings
	trains   chan began
	saved    atomic.Int64 // step of the newest checkpoint
	complete atomic.Bool  // makes the next step the last of the run
	crew     []*process   // that were started
}

// began says that a worker has taken the first step of a generation.
type began struct {
	worker     string
	generation uint64
	rank, size int
	resume     int64
}

func newCrew(t *testing.T, meshes ...cluster.Mesh) *crew {
	c := &crew{t: t, disk: vfs.NewMem(), settings: cluster.Defaults("run", meshes[0]), trains: make(chan began, 64)}
	c.settings.Meshes = meshes
	// Nobody is lost for having been slow: the machine may be busy.
	c.settings.JoinWindow, c.settings.Lease, c.settings.Settle = patience, patience, tick
	c.saved.Store(-1)
	return c
}

// process is a worker.
type process struct {
	crew   *crew
	node   *rpc.Node
	cancel context.CancelFunc
	ended  chan Ended
	broken atomic.Bool // its disk

	mu   sync.Mutex
	said []string
}

// start starts a worker that prefers a rank, and is named by it. Worker 0 is the first to
// coordinate. Facts are what it says of its configuration, field and value in turn.
func (c *crew) start(rank int, facts ...string) *process {
	c.t.Helper()
	node, err := rpc.Listen("127.0.0.1:0", rpc.Options{})
	if err != nil {
		c.t.Fatal(err)
	}
	p := &process{crew: c, node: node, ended: make(chan Ended, 1)}
	c.crew = append(c.crew, p)
	starts := len(c.crew)
	hello := cluster.Hello{Run: c.settings.Run, Worker: fmt.Sprint(rank), Rank: rank, Binary: "v1", ConfigHash: strings.Join(facts, " ")}
	for i := 0; i < len(facts); i += 2 {
		hello.Facts = append(hello.Facts, cluster.Fact{Field: facts[i], Value: facts[i+1]})
	}
	disk := vfs.NewFaults(c.disk, func(vfs.Op) error {
		if p.broken.Load() {
			return errors.New("the disk is gone")
		}
		return nil
	})
	ctx, cancel := context.WithCancel(c.t.Context())
	p.cancel = cancel
	opt := Options{
		Settings: c.settings, Hello: hello, Process: fmt.Sprint(starts), Dir: disk, Node: node, Address: node.Addr(),
		Late: rank > 0 || starts > 1, Checkpoints: c.checkpoints, Say: p.say,
		Train: func(ctx context.Context, a *Assignment) Result {
			err := c.train(ctx, hello.Worker, a)
			r := Result{Outcome: Outcome(err)}
			if err != nil {
				r.Reason = err.Error()
			}
			if errors.Is(err, context.Canceled) {
				r.Outcome = cluster.OutcomeStopped
			}
			return r
		},
	}
	go func() {
		p.ended <- Run(ctx, opt)
		close(p.ended)
	}()
	c.t.Cleanup(func() {
		cancel()
		<-p.ended
		if !p.broken.Load() {
			node.Close()
		}
	})
	return p
}

func (c *crew) checkpoints() []cluster.Checkpoint {
	step := c.saved.Load()
	if step < 0 {
		return nil
	}
	return []cluster.Checkpoint{{Step: step, Hash: fmt.Sprint(step)}}
}

// train counts steps, in each of which all ranks meet and rank 0 saves.
func (c *crew) train(ctx context.Context, worker string, a *Assignment) error {
	size := len(a.Generation.Members)
	ranks := make([]int, size)
	for i := range ranks {
		ranks[i] = i
	}
	all, err := parallel.NewGroup(a.Transport, "all", ranks, parallel.GroupOptions{Timeout: patience})
	if err != nil {
		return err
	}
	if err := a.Ready(ctx, a.Resume, "state"); err != nil {
		return err
	}
	for step := a.Resume + 1; ; step++ {
		x := []float32{1, 0}
		if c.complete.Load() {
			x[1] = 1
		}
		if err := all.AllReduce(ctx, parallel.Op{Step: step, Name: "step"}, x); err != nil {
			return err
		}
		if x[0] != float32(size) {
			return fmt.Errorf("%v ranks of %d have met", x[0], size)
		}
		if a.Rank == 0 {
			if err := a.Fence(); err != nil {
				return err
			}
			c.saved.Store(step)
		}
		a.Report(cluster.Report{Step: step, Saved: c.saved.Load()})
		if step == a.Resume+1 {
			c.trains <- began{worker, a.Generation.Number, a.Rank, size, a.Resume}
		}
		if x[1] > 0 {
			return nil
		}
	}
}

// kill takes a process away from one moment to the next, as far as the others can see:
// nobody listens at its address, its connections break, and it writes nothing any more.
func (p *process) kill() {
	p.broken.Store(true)
	p.node.Close()
	p.cancel()
}

func (p *process) say(_ bool, text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.said = append(p.said, text)
}

func (p *process) lines() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.said, "\n")
}

func (c *crew) lines() string {
	var text strings.Builder
	for i, p := range c.crew {
		fmt.Fprintf(&text, "\n-- process %d\n%s", i+1, p.lines())
	}
	return text.String()
}

// await waits until workers, by rank, have taken the first step of the first generation
// after one, and returns its number and the step that they began with.
func (c *crew) await(after uint64, workers ...string) (generation uint64, resume int64) {
	c.t.Helper()
	deadline := time.After(patience)
	for n := range workers {
		select {
		case b := <-c.trains:
			if n == 0 {
				generation, resume = b.generation, b.resume
			}
			if generation <= after || b.generation != generation || b.resume != resume || b.size != len(workers) || workers[b.rank] != b.worker {
				c.t.Fatalf("%+v, waiting for %v after generation %d", b, workers, after)
			}
		case <-deadline:
			c.t.Fatalf("only %d of %v train after generation %d; they said:%s", n, workers, after, c.lines())
		}
	}
	return generation, resume
}

// ends waits for the end of a process, and its reason to say something.
func (p *process) ends(code int, says ...string) {
	p.crew.t.Helper()
	select {
	case ended := <-p.ended:
		for _, s := range says {
			if !strings.Contains(ended.Reason, s) {
				p.crew.t.Errorf("it ended with %q, which does not say %q", ended.Reason, s)
			}
		}
		if ended.Code != code {
			p.crew.t.Errorf("it ended with code %d (%s), not %d", ended.Code, ended.Reason, code)
		}
	case <-time.After(patience):
		p.crew.t.Fatalf("it does not end; it said:\n%s", p.lines())
	}
}

// TestRejoin: of two workers one leaves in the middle of a step and comes back as another
// process; both go on from the newest checkpoint until the run is complete.
func TestRejoin(t *testing.T) {
	t.Parallel()
	c := newCrew(t, cluster.Mesh{Data: 2, Expert: 1})
	first, second := c.start(0), c.start(1)
	generation, resume := c.await(0, "0", "1")
	if generation != 1 || resume != -1 {
		t.Errorf("generation %d begins after step %d", generation, resume)
	}
	second.cancel()
	second.ends(codeRetry)
	saved := c.saved.Load()
	again := c.start(1)
	if _, resume = c.await(generation, "0", "1"); resume < saved || saved < 0 {
		t.Errorf("it goes on from step %d, and step %d was saved", resume, saved)
	}
	c.complete.Store(true)
	first.ends(codeOK)
	again.ends(codeOK)
}

// TestSurvivors: of three workers one leaves and does not come back; the others go on
// when the join window has ended.
func TestSurvivors(t *testing.T) {
	t.Parallel()
	c := newCrew(t, cluster.Mesh{Data: 3, Expert: 1}, cluster.Mesh{Data: 2, Expert: 1})
	c.settings.JoinWindow = 2 * time.Second
	crew := []*process{c.start(0), c.start(1), c.start(2)}
	generation, _ := c.await(0, "0", "1", "2")
	crew[1].cancel()
	crew[1].ends(codeRetry)
	c.await(generation, "0", "2")
	c.complete.Store(true)
	crew[0].ends(codeOK)
	crew[2].ends(codeOK)
	if said := crew[0].lines(); !strings.Contains(said, "2 of 3 workers have joined") || !strings.Contains(said, "going on with 2") {
		t.Errorf("the coordinator said:\n%s", said)
	}
}

// TestStopped: workers that are asked to stop, all at once or the coordinator alone, leave
// with their checkpoint, and nobody takes that for a fault.
func TestStopped(t *testing.T) {
	t.Parallel()
	for range 3 {
		c := newCrew(t, cluster.Mesh{Data: 2, Expert: 1})
		crew := []*process{c.start(0), c.start(1)}
		c.await(0, "0", "1")
		for _, p := range crew {
			p.cancel()
		}
		for _, p := range crew {
			p.ends(codeRetry)
		}
		if said := c.lines(); strings.Contains(said, "its connection broke") {
			t.Fatalf("they said:\n%s", said)
		}
	}
}

// TestSuccessor: the process that coordinates is killed; another one takes the lease at
// once and makes the next generation, with the process that is started in place of the first.
func TestSuccessor(t *testing.T) {
	t.Parallel()
	c := newCrew(t, cluster.Mesh{Data: 3, Expert: 1})
	crew := []*process{c.start(0), c.start(1), c.start(2)}
	generation, _ := c.await(0, "0", "1", "2")
	crew[0].kill()
	crew[0] = c.start(0)
	c.await(generation, "0", "1", "2")
	record, err := cluster.ReadLease(c.disk, ".")
	if err != nil || record.Term < 2 || strings.HasPrefix(record.Holder, "0-") {
		t.Errorf("the lease is %+v, %v", record, err)
	}
	c.complete.Store(true)
	for _, p := range crew {
		p.ends(codeOK)
	}
	said := crew[1].lines() + crew[2].lines()
	for _, s := range []string{"has lost the coordinator of term 1, in generation 1", "coordinates from now on, in term 2, in place of 0-1: generation 1 was the last"} {
		if !strings.Contains(said, s) {
			t.Errorf("nobody says %q:\n%s", s, said)
		}
	}
}

// TestRefused: a worker with another configuration is refused before anything is trained,
// and told which field differs from whose; the right one is let in after it.
func TestRefused(t *testing.T) {
	t.Parallel()
	c := newCrew(t, cluster.Mesh{Data: 2, Expert: 1})
	boss := c.start(0, "trainer.steps", "100", "data", "3fa9")
	c.start(1, "trainer.steps", "100", "data", "77c0").ends(codeConfig, "worker 1 was refused", "data: 77c0, but 0 has 3fa9")
	right := c.start(1, "trainer.steps", "100", "data", "3fa9")
	c.await(0, "0", "1")
	c.complete.Store(true)
	boss.ends(codeOK)
	right.ends(codeOK)
	if said := boss.lines(); strings.Count(said, "worker 1 refused: data: 77c0, but 0 has 3fa9") != 1 {
		t.Errorf("the coordinator said:\n%s", said)
	}
}

// TestTooFew: nothing is trained if the join window ends too early for the smallest mesh,
// nor if there is no coordinator to join.
func TestTooFew(t *testing.T) {
	t.Parallel()
	for rank, says := range []string{"too few workers: after 500ms, 1 of 2 workers have joined (0), 2 are needed", "worker 1 has found no coordinator within 500ms"} {
		c := newCrew(t, cluster.Mesh{Data: 2, Expert: 1})
		c.settings.JoinWindow = 500 * time.Millisecond
		c.start(rank).ends(codeConfig, says)
	}
}
