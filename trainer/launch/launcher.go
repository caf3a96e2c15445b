package launch

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/internal/vfs"
	"jambalaya/trainer"
)

// launchedVariable is set for workers that a launcher looks after, to a name of that
// launcher.
const launchedVariable = "JAMBALAYA_LAUNCHER"

// Launch starts workers on this machine, shows how they get on, starts those that die
// again, and returns when all have ended. Its error carries the exit code.
func Launch(ctx context.Context, cfg trainer.Config, opt Options) error {
	if err := errors.Join(opt.checkAddresses(), opt.checkMetrics()); err != nil {
		return err
	}
	cfg, err := wholeRun(cfg, opt)
	if err != nil {
		return err
	}
	if !opt.Joining && opt.Place.Rank <= 0 {
		prepared, err := trainer.Prepare(ctx, cfg, trainer.Options{Name: opt.Name, Out: opt.Out, Fresh: opt.Fresh, Stdout: opt.Stdout})
		if err != nil {
			return err
		}
		defer prepared.Close()
		cfg = prepared.Config
	}
	if err := opt.meetingPoint(); err != nil {
		return err
	}
	l := &launcher{cfg: cfg, opt: opt, id: unique()[:4], ended: make(chan *child), quit: make(chan struct{})}
	l.view = newView(opt.Stdout)
	defer l.view.close()
	if err := l.openMetrics(); err != nil {
		return err
	}
	defer l.metrics.close()
	if all := cfg.Parallel.Mesh().Size(); all > opt.Procs {
		l.view.printf("%d of %d workers start here; the others have %d s to come to %s", opt.Procs, all, cfg.Parallel.JoinWindowSeconds, l.opt.Place.Master)
	}
	watching, stop := context.WithCancel(context.Background())
	var watcher sync.WaitGroup
	if dir, err := vfs.Dir(opt.Out); err == nil {
		defer dir.Close()
		watcher.Go(func() { l.watch(watching, dir) })
	}
	defer func() { // before what it shows is closed
		close(l.quit)
		stop()
		watcher.Wait()
	}()
	err = l.run(ctx)
	if err == nil {
		l.view.complete()
	}
	return err
}

// wholeRun is the configuration with a mesh for all workers, those of other machines
// included.
func wholeRun(cfg trainer.Config, opt Options) (trainer.Config, error) {
	total := cfg.Parallel.Mesh().Size()
	switch {
	case opt.Place.World > 0:
		total = opt.Procs * opt.Place.World
	case opt.Joining && total <= opt.Procs:
		return cfg, noRoom(total)
	case !opt.Joining && total <= cfg.Parallel.Expert:
		total = opt.Procs // the default: as many as are started here
	}
	if size := cfg.Parallel.Mesh().Size(); cfg.Parallel.Data != 1 && size != total || total < opt.Procs {
		return cfg, cli.Config(fmt.Errorf("parallel.data: %d x expert %d are %d ranks, but %d workers are started", cfg.Parallel.Data, cfg.Parallel.Expert, size, max(total, opt.Procs)))
	}
	return cfg.OnRanks(total)
}

// noRoom is the fault of a process that joins others without a mesh for them.
func noRoom(ranks int) error {
	return cli.Config(fmt.Errorf("parallel.data: a mesh of size %d has no room for others, but this process joins some: set it as for the run that is joined", ranks))
}

// meetingPoint decides where the workers find each other.
func (o *Options) meetingPoint() error {
	if o.Place.Master != "" {
		return nil
	}
	if o.Advertise != "" || o.Listen != "" {
		o.Place.Master = cmp.Or(o.Advertise, o.Listen)
		return o.checkAddresses()
	}
	port, err := freePort()
	o.Place.Master = net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	return err
}

// launcher looks after the workers of a machine.
type launcher struct {
	cfg      trainer.Config
	opt      Options
	id       string
	view     *view
	metrics  *metrics
	children []*child
	reached  atomic.Int64 // furthest step of the run
	ended    chan *child
	quit     chan struct{}
}

const (
	// patience is for workers to end by themselves once one has ended for good.
	patience = 10 * time.Second
	// steady is how long a worker must have lived for its death to count as the first,
	// if the run has made no progress meanwhile.
	steady = 10 * time.Second
	// calm is the longest wait for a worker that ended by its own decision, to be started
	// again: it was cut off, say, and finds out for itself how long that lasts.
	calm = time.Second
)

func (l *launcher) run(ctx context.Context) error {
	for i := range l.opt.Procs {
		l.children = append(l.children, &child{index: i})
	}
	defer l.killAll()
	for _, c := range l.children {
		if err := l.start(c); err != nil {
			return err
		}
	}
	asked := ctx.Done()
	var hurry <-chan time.Time
	var final error
	for running := l.opt.Procs; running > 0; {
		select {
		case <-asked:
			asked = nil
			l.view.printf("stopping after this step; once more stops at once")
			l.signalAll(stopSignal)
		case <-hurry:
			hurry = time.After(patience)
			l.signalAll(stopSignal)
		case c := <-l.ended:
			again, err := l.judge(ctx, c, final != nil)
			if again {
				continue
			}
			running--
			if err != nil && (final == nil || cli.Code(final) == cli.CodeInterrupted) {
				final = err
				hurry = time.After(patience)
			}
		}
	}
	return final
}

// judge decides what the end of a worker means: whether it starts again, and else with
// what error the run ends.
func (l *launcher) judge(ctx context.Context, c *child, over bool) (again bool, err error) {
	code, how := c.outcome()
	if code == cli.CodeOK {
		return false, nil
	}
	said := c.said()
	err = fmt.Errorf("worker %d %s", l.rank(c), how)
	if said != "" {
		err = errors.New(said)
	}
	switch {
	case ctx.Err() != nil && code == cli.CodeInterrupted:
		return false, cli.Interrupted(trainer.ErrStopped)
	case code == cli.CodeConfig:
		return false, cli.Config(err)
	case code == cli.CodeFailure:
		return false, err
	case ctx.Err() != nil || over:
		return false, err
	}
	if reached := l.reached.Load(); time.Since(c.began) >= steady || reached > c.reached {
		c.deaths, c.reached = 0, reached
	}
	if c.deaths++; c.deaths > l.cfg.Parallel.Restarts {
		return false, fmt.Errorf("worker %d has died %d times in a row; the last time it %s", l.rank(c), c.deaths, how)
	}
	wait := time.Duration(0)
	if c.deaths > 1 {
		wait = min(250*time.Millisecond<<min(c.deaths, 16), steady)
	}
	if code == cli.CodeInterrupted {
		wait = min(wait, calm)
	}
	if said != "" {
		how += ": " + said
	}
	l.view.printf("worker %d %s; it is started again", l.rank(c), how)
	l.metrics.restarted()
	time.AfterFunc(wait, func() {
		err := cli.Interrupted(trainer.ErrStopped) // asked meanwhile: the signal has not reached this worker
		if ctx.Err() == nil {
			err = l.start(c)
		}
		if err != nil {
			c.fail(err)
			l.report(c)
		}
	})
	return true, nil
}

// report hands a child that has ended to run.
func (l *launcher) report(c *child) {
	select {
	case l.ended <- c:
	case <-l.quit:
	}
}

// rank is what a worker of this machine prefers to be.
func (l *launcher) rank(c *child) int { return max(l.opt.Place.Rank, 0)*l.opt.Procs + c.index }

// environment is that of a worker.
func (l *launcher) environment(c *child) []string {
	env := os.Environ()
	set := func(name, value string) { env = append(env, name+"="+value) }
	set(launchedVariable, l.id)
	set("LOCAL_RANK", strconv.Itoa(c.index))
	if l.opt.Joining {
		for _, name := range []string{"RANK", "WORLD_SIZE", "SLURM_PROCID", "JOB_COMPLETION_INDEX"} {
			set(name, "") // that of the launcher is no rank of its workers
		}
		return env
	}
	host, port, _ := net.SplitHostPort(l.opt.Place.Master)
	set("RANK", strconv.Itoa(l.rank(c)))
	set("WORLD_SIZE", strconv.Itoa(l.cfg.Parallel.Mesh().Size()))
	set("MASTER_ADDR", host)
	set("MASTER_PORT", port)
	return env
}

// arguments are those of a worker: the command's, with the mesh of the whole run.
func (l *launcher) arguments() []string {
	args := append([]string(nil), l.opt.Args...)
	if l.opt.Listen != "" {
		args = append(args, "--listen", l.opt.Listen)
	}
	if l.opt.Advertise != "" {
		args = append(args, "--advertise", l.opt.Advertise)
	}
	args = append(args, "--set", fmt.Sprintf("parallel.data=%d", l.cfg.Parallel.Data))
	if l.cfg.Trainer.Threads == 0 {
		args = append(args, "--set", fmt.Sprintf("trainer.threads=%d", threadsEach(l.opt.Procs)))
	}
	return args
}
