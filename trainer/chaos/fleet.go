package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"

	"jambalaya/checkpoint"
	"jambalaya/internal/vfs"
	"jambalaya/parallel/cluster"
)

// fleet is a run of one worker on each machine of a network, each with a launcher of its
// own, as a scheduler starts them. The machines share the run's directory.
type fleet struct {
	*crew // the first machine's, for what is asked of the run
	net   *network
	all   []*process
}

// fleetSettings let a part of the workers go on, soon.
var fleetSettings = set("parallel.min_workers=2", "parallel.join_window_seconds=4", "checkpoint.every=20", "checkpoint.keep=1000", "trainer.audit=true")

// startFleet starts a run on four machines and waits until it trains.
func (l *lab) startFleet(ctx context.Context, name string, more ...string) (*fleet, error) {
	const size = 4
	dir, err := l.place(name)
	if err != nil {
		return nil, err
	}
	n, err := newNetwork(size, l.opt.Seed)
	if err != nil {
		return nil, err
	}
	f := &fleet{net: n}
	master := n.machines[0]
	for i, m := range n.machines {
		args := append(l.arguments(dir, shared...), set(fmt.Sprintf("parallel.data=%d", size))...)
		args = append(args, "--nproc", "1", "--listen", m.listen(), "--advertise", m.advertise(), "--metrics", "off")
		p, err := l.startWith(ctx, func(c *exec.Cmd) {
			c.Env = append(os.Environ(), "RANK="+strconv.Itoa(i), fmt.Sprintf("WORLD_SIZE=%d", size), "MASTER_ADDR="+master.outer, fmt.Sprintf("MASTER_PORT=%d", master.port))
		}, l.train, append(args, more...)...)
		if err != nil {
			return nil, errors.Join(err, f.stopAll())
		}
		f.all = append(f.all, p)
		if i == 0 {
			f.crew = &crew{p, l, dir, size}
		}
	}
	if _, err := f.whole(ctx, 0); err != nil {
		return nil, errors.Join(err, f.stopAll())
	}
	return f, nil
}

// stopAll ends the run on all machines.
func (f *fleet) stopAll() error {
	f.net.heal()
	var errs error
	for _, p := range f.all {
		errs = errors.Join(errs, (&crew{process: p}).stopAll())
	}
	return errors.Join(errs, f.net.close())
}

// alive wants all launchers to be there.
func (f *fleet) alive() error {
	for i, p := range f.all {
		select {
		case <-p.done:
			return fmt.Errorf("machine %d has given up (%s): %s", i, p.cmd.ProcessState, p.lastLine())
		default:
		}
	}
	return nil
}

// whole waits for a step of all workers together, in a generation after one, and returns
// that generation.
func (f *fleet) whole(ctx context.Context, after uint64) (cluster.Generation, error) {
	return f.trainsWith(ctx, after, func(g cluster.Generation) bool { return len(g.Members) == f.size })
}

// trainsWith waits for a new step in a generation after one that fits.
func (f *fleet) trainsWith(ctx context.Context, after uint64, fits func(cluster.Generation) bool) (cluster.Generation, error) {
	var g cluster.Generation
	since := int64(-1)
	_, err := f.until(ctx, "no step is taken by the right workers", func() (bool, error) {
		if err := f.alive(); err != nil {
			return false, err
		}
		list, err := f.generations()
		if err != nil || len(list) == 0 || list[len(list)-1].Number <= after {
			return false, err
		}
		if last := list[len(list)-1]; last.Number != g.Number {
			g, since = last, -1
		}
		line, ok := f.last()
		switch {
		case !ok || !fits(g):
			return false, nil
		case since < 0:
			since = line.Step // may be of the generation before
			return false, nil
		}
		return line.Step > since, nil
	})
	return g, err
}

// published lists the manifests of the run's checkpoints, by step, with when they came.
func (f *fleet) published() ([]publication, error) {
	root, err := f.root()
	if err != nil {
		return nil, err
	}
	defer root.Close()
	return publications(root, f.dir)
}

// publication is a checkpoint that somebody has published.
type publication struct {
	claim
	at int64 // milliseconds
}

func publications(root vfs.FS, dir string) ([]publication, error) {
	entries, err := checkpoint.List(root, checkpointDir)
	if err != nil {
		return nil, err
	}
	var list []publication
	for _, e := range entries {
		if e.Manifest == nil {
			return nil, fmt.Errorf("the checkpoint of step %d has no manifest that can be read", e.Step)
		}
		info, err := os.Stat(filepath.Join(dir, checkpointDir, e.Name))
		if err != nil {
			return nil, err
		}
		list = append(list, publication{claim{e.Step, e.Manifest.Generation, e.Manifest.Term}, info.ModTime().UnixMilli()})
	}
	slices.SortFunc(list, func(a, b publication) int { return cmp.Compare(a.Step, b.Step) })
	return list, nil
}
