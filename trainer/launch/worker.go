package launch

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"jambalaya/checkpoint"
	"jambalaya/internal/cli"
	"jambalaya/internal/vfs"
	"jambalaya/parallel/cluster"
	"jambalaya/parallel/cluster/agent"
	"jambalaya/parallel/rpc"
	"jambalaya/trainer"
)

// checkpoints is the directory of checkpoints in that of a run.
const checkpoints = "checkpoints"

// Launched reports whether a launcher has started this process: it is a worker then.
func Launched() bool { return os.Getenv(launchedVariable) != "" }

// Worker trains as one process of many, in one generation after the other, until the
// run ends. Its error carries the exit code.
func Worker(ctx context.Context, cfg trainer.Config, opt Options) error {
	if Launched() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		go func() {
			// The launcher holds the other end. If it dies, whatever way, nobody looks
			// after this process any more.
			_, _ = io.Copy(io.Discard, os.Stdin)
			cancel()
		}()
	}
	var err error
	if !Launched() { // else the launcher has seen to it
		if cfg, err = scheduled(cfg, opt); err != nil {
			return err
		}
	}
	w := &worker{cfg: cfg, opt: opt}
	ended, err := w.run(ctx)
	if err != nil {
		return err
	}
	if ended.Alone && opt.Place.Master != "" && (ended.Code == cli.CodeConfig || ended.Code == cli.CodeInterrupted) {
		ended.Reason += fmt.Sprintf("; nobody of this run answers at %s (%s)", opt.Place.Master, opt.Place.from(opt.Joining))
	}
	return coded(ended)
}

// scheduled is the configuration of a worker that no launcher has started. Without a mesh in
// it all processes that were started train; where they are more than a mesh that is given
// needs, the others wait to take a place that becomes free.
func scheduled(cfg trainer.Config, opt Options) (trainer.Config, error) {
	size := cfg.Parallel.Mesh().Size()
	switch {
	case opt.Fresh:
		return cfg, cli.Config(errors.New("--fresh: nobody moves the directory aside for workers that are started one by one; give another --out"))
	case opt.Joining && size == 1:
		return cfg, noRoom(size)
	case opt.Place.Source != "" && opt.Place.World == 0 && size == 1:
		return cfg, cli.Config(errors.New("parallel.data: how many workers there are is not known; set it, or WORLD_SIZE"))
	case cfg.Parallel.Data == 1 && opt.Place.World > size && !opt.Joining:
		return cfg.OnRanks(opt.Place.World)
	}
	return cfg, nil
}

// coded turns the end of an agent into an error with the exit code of it.
func coded(e agent.Ended) error {
	err := errors.New(e.Reason)
	switch e.Code {
	case cli.CodeOK:
		return nil
	case cli.CodeConfig:
		return cli.Config(err)
	case cli.CodeInterrupted:
		return cli.Interrupted(err)
	}
	return err
}

// worker is a process that trains.
type worker struct {
	cfg trainer.Config
	opt Options
	dir *vfs.DirFS

	ready bool // has been, in a generation
}

func (w *worker) run(ctx context.Context) (agent.Ended, error) {
	at, err := addressesOf(w.opt)
	if err != nil {
		return agent.Ended{}, err
	}
	process := unique()
	name := workerName(w.opt, at, process)
	run, err := w.openDir(ctx)
	if err != nil {
		return agent.Ended{}, fmt.Errorf("worker %s: %w", name, err)
	}
	defer w.dir.Close()
	creds, err := w.opt.credentials(name)
	if err != nil {
		return agent.Ended{}, err
	}
	node, err := rpc.Listen(at.node.listen, w.opt.network(creds, at.from))
	if err != nil {
		return agent.Ended{}, cli.Config(w.opt.explain(fmt.Errorf("worker %s: %w", name, err)))
	}
	defer node.Close()
	address := at.node.reached(node.Addr())
	talk := agent.GossipOptions{Run: run, Worker: name, Process: process, Address: at.gossip.listen, Advertise: at.gossip.advertise, From: at.from,
		Seeds: at.seeds, Node: address, Plaintext: w.opt.Insecure}
	if creds != nil {
		talk.Keys = creds.GossipKeys
	}
	gossip, err := agent.StartGossip(talk)
	if err != nil {
		return agent.Ended{}, cli.Config(w.opt.explain(fmt.Errorf("worker %s: %w", name, err)))
	}
	defer gossip.Close()
	hello, err := w.hello(run, name)
	if err != nil {
		return agent.Ended{}, err
	}
	return agent.Run(ctx, agent.Options{
		Settings: settings(w.cfg, run), Hello: hello, Process: process, Dir: w.dir, Node: node, Address: address, Gossip: gossip,
		Late: w.opt.Joining, Checkpoints: w.checkpoints, Train: w.train, Say: w.say,
	}), nil
}

// openDir opens the run's directory and returns the run's identity. One that joins
// waits for the directory to have one.
func (w *worker) openDir(ctx context.Context) (string, error) {
	if !w.opt.Joining {
		if err := os.MkdirAll(w.opt.Out, 0o755); err != nil {
			return "", fmt.Errorf("run directory: %w; choose another with --out", err)
		}
	}
	deadline := time.Now().Add(time.Duration(w.cfg.Parallel.JoinWindowSeconds) * time.Second)
	for {
		dir, err := vfs.Dir(w.opt.Out)
		if err == nil {
			w.dir = dir
			run := ""
			if w.opt.Joining {
				run, err = cluster.ReadRunID(dir, ".")
			} else {
				run, err = cluster.RunID(dir, ".")
			}
			if err == nil {
				return run, nil
			}
			dir.Close()
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
		if !w.opt.Joining || time.Now().After(deadline) {
			return "", cli.Config(fmt.Errorf("out: %s is not the directory of a run that has begun: all machines must share it (%w)", w.opt.Out, err))
		}
		select {
		case <-time.After(200 * time.Millisecond):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// hello is what this worker says of itself.
func (w *worker) hello(run, name string) (cluster.Hello, error) {
	values, err := w.cfg.Facts()
	if err != nil {
		return cluster.Hello{}, err
	}
	h := cluster.Hello{Run: run, Worker: name, Rank: w.opt.Place.Rank, Binary: version()}
	for _, v := range values {
		h.Facts = append(h.Facts, cluster.Fact{Field: v.Key, Value: v.Text})
	}
	h.ConfigHash = fmt.Sprintf("%x", sha256.Sum256(fmt.Append(nil, h.Facts)))
	return h, nil
}

// checkpoints lists those whose manifest can be read.
func (w *worker) checkpoints() []cluster.Checkpoint {
	entries, err := checkpoint.List(w.dir, checkpoints)
	if err != nil {
		w.say(true, err.Error())
	}
	var list []cluster.Checkpoint
	for _, e := range entries {
		const most = 32
		if e.Manifest != nil && len(list) < most {
			list = append(list, cluster.Checkpoint{Step: e.Step, Hash: e.Manifest.SHA256})
		}
	}
	return list
}

// train is a rank of one generation.
func (w *worker) train(ctx context.Context, a *agent.Assignment) agent.Result {
	cfg := w.cfg
	cfg.Parallel.Data, cfg.Parallel.Expert = a.Generation.Mesh.Data, a.Generation.Mesh.Expert
	var last lastReport
	err := trainer.Run(ctx, cfg, trainer.Options{Name: w.opt.Name, Out: w.opt.Out, Stdout: w.opt.Stdout, World: &trainer.World{
		Transport: a.Transport, Local: w.opt.Place.Local, Term: a.Generation.Term, Again: w.ready, Silent: Launched(),
		Ready: func(ctx context.Context, step int64, state string) error {
			w.ready = true
			return a.Ready(ctx, step, state)
		},
		Fence: func() error {
			if err := a.Fence(); err != nil {
				return fenced(err)
			}
			return nil
		},
		Watch: func(p trainer.Progress) { a.Report(last.progress(p)) },
		Still: func(s trainer.Standstill) { a.Report(last.still(s)) },
	}})
	return result(ctx, err)
}

// fenced marks an answer of the fence as one for good.
func fenced(err error) error {
	if errors.Is(err, cluster.ErrFenced) {
		return fmt.Errorf("%w: %w", checkpoint.ErrFenced, err)
	}
	return err
}

// result says what an error of training means.
func result(ctx context.Context, err error) agent.Result {
	r := agent.Result{Outcome: agent.Outcome(err)}
	if err == nil {
		return r
	}
	r.Reason = err.Error()
	switch {
	case errors.Is(err, trainer.ErrStopped), ctx.Err() != nil && errors.Is(err, context.Canceled):
		r.Outcome = cluster.OutcomeStopped
	case errors.Is(err, checkpoint.ErrFenced):
		r.Outcome = cluster.OutcomeAborted
	case r.Outcome == cluster.OutcomeFailed:
		r.Code = cli.Code(err)
	}
	return r
}

// report is a step as the coordinator hears of it.
func report(p trainer.Progress) cluster.Report {
	r := cluster.Report{Step: p.Step, Steps: p.Steps, Saved: p.Saved, Seconds: p.Seconds, Busy: p.Seconds - p.Waited, From: p.From, Link: p.Link, Loss: p.Result.CELoss}
	if p.Seconds > 0 {
		r.Tokens = float64(p.Tokens) / p.Seconds
	}
	for _, layer := range p.Result.Load {
		top := 0.0
		for _, share := range layer {
			top = max(top, float64(share))
		}
		r.Imbalance = max(r.Imbalance, top*float64(len(layer)))
	}
	return r
}

// lastReport is what the coordinator hears of again while no step is taken.
type lastReport struct {
	mu     sync.Mutex
	report cluster.Report
}

func (l *lastReport) progress(p trainer.Progress) cluster.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.report = report(p)
	return l.report
}

func (l *lastReport) still(s trainer.Standstill) cluster.Report {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.report
	r.Still, r.Operation, r.Waiting = s.Since.Seconds(), s.Operation, s.Waiting.Seconds()
	return r
}

// say tells the user.
func (w *worker) say(warning bool, text string) {
	if warning {
		text = "warning: " + text
	}
	fmt.Fprintln(w.opt.Stdout, text)
}
