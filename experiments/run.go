package experiments

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"

	"jambalaya/data"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/internal/filelock"
	"jambalaya/internal/human"
	"jambalaya/internal/term"
	"jambalaya/trainer"
)

// Options are what Run needs besides the grid.
type Options struct {
	Out     string // the grid's directory
	Device  string // of every cell; empty is what the configuration says
	Threads int    // CPU threads of a cell; 0 is 1 where cells run side by side, else all
	Jobs    int    // cells side by side; 0 is one a core, or 1 on a GPU
	Stdout  *os.File
}

// attempts is how often a cell is tried. A run that failed goes on from its last
// checkpoint.
const attempts = 2

// Run runs the cells of a grid that are not done, and writes the report. The same
// call again goes on where the last one was stopped. Several processes may work on one
// directory: each takes cells that no other has.
func Run(ctx context.Context, g *Grid, opt Options) error {
	if err := openOut(g, opt.Out); err != nil {
		return err
	}
	if err := g.place(&opt); err != nil {
		return err
	}
	m, err := g.prepareShown(ctx, opt.Stdout)
	if err != nil {
		return err
	}
	r := &runner{grid: g, opt: opt, material: m, running: map[*Cell]bool{}}
	if err := r.load(); err != nil {
		return err
	}
	if err := r.runAll(ctx); err != nil {
		return err
	}
	set, err := r.measured(ctx)
	if err != nil {
		return err
	}
	if err := set.write(opt); err != nil {
		return err
	}
	if n := len(r.failed); n > 0 {
		return fmt.Errorf("%w: %d of %d cells failed; the same command tries them again", ErrIncomplete, n, len(g.Cells))
	}
	return nil
}

// openOut makes the grid's directory, or checks that it is this grid's.
func openOut(g *Grid, out string) error {
	text, err := config.Encode(g.Spec)
	if err != nil {
		return err
	}
	name := filepath.Join(out, gridFile)
	old, err := os.ReadFile(name)
	if err == nil {
		spec := Spec{}
		if _, err := config.Load(&spec, config.File{Name: name, Text: old}, nil); err != nil {
			return cli.Config(err)
		}
		differences, err := config.Diff(spec, g.Spec)
		if err != nil || len(differences) == 0 {
			return err
		}
		d := differences[0]
		return cli.Config(fmt.Errorf("%w: %s: %s is %s there, %s now; choose another folder with --out", ErrOtherGrid, name, d.Key, shorten(d.A), shorten(d.B)))
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	entries, err := os.ReadDir(out)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return cli.Config(err)
	}
	for _, e := range entries {
		if e.Name() != gridFile && !strings.HasPrefix(e.Name(), temporaryPrefix) { // what another process makes at this moment
			return cli.Config(fmt.Errorf("%w: %s holds %s, but no %s; choose another folder with --out", ErrOtherGrid, out, e.Name(), gridFile))
		}
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return cli.Config(fmt.Errorf("directory of the grid: %w; choose another with --out", err))
	}
	return writeFile(name, text) // first of all: the folder is this grid's from now on, whatever happens
}

// shorten cuts a value that would fill the screen.
func shorten(text string) string {
	const most = 80
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}

// place decides how many cells run side by side, on what.
func (g *Grid) place(opt *Options) error {
	for _, c := range g.Cells {
		if opt.Device != "" {
			c.Config.Trainer.Device = opt.Device
		}
	}
	device, err := trainer.OpenDevice(g.Cells[0].Config.Trainer.Device, 1)
	if err != nil {
		return cli.Config(err)
	}
	onCPU := device.Name() == "cpu"
	device.Close()
	cores := runtime.GOMAXPROCS(0)
	if opt.Jobs == 0 {
		opt.Jobs = 1
		if onCPU {
			opt.Jobs = max(1, cores/max(1, opt.Threads))
		}
	}
	opt.Jobs = min(opt.Jobs, len(g.Cells))
	if opt.Threads == 0 {
		opt.Threads = max(1, cores/opt.Jobs)
	}
	for _, c := range g.Cells {
		c.Config.Trainer.Threads = opt.Threads
	}
	return nil
}

// prepareShown is prepare with a progress bar.
func (g *Grid) prepareShown(ctx context.Context, out *os.File) (*material, error) {
	bars := &term.Stages{Out: out, Format: human.Bytes}
	m, err := g.prepare(ctx, func(p data.Progress) { bars.Set(p.Stage+" "+p.Source, p.Done, p.Total) })
	bars.Close()
	if err != nil && (data.IsConfig(err) || errors.Is(err, ErrGrid)) {
		err = cli.Config(err)
	}
	return m, err
}

// runner is one process's work on a grid.
type runner struct {
	grid     *Grid
	opt      Options
	material *material
	show     *liveView

	mu      sync.Mutex
	waiting []*Cell
	running map[*Cell]bool
	results map[*Cell]*Result
	failed  map[*Cell]error
}

// load finds the cells that are done.
func (r *runner) load() error {
	r.results, r.failed = map[*Cell]*Result{}, map[*Cell]error{}
	for _, c := range r.grid.Cells {
		res, err := r.grid.result(r.opt.Out, c)
		if err != nil {
			return cli.Config(err)
		}
		if res == nil {
			r.waiting = append(r.waiting, c)
		} else {
			r.results[c] = res
		}
	}
	return nil
}

func (r *runner) dir(c *Cell) string { return filepath.Join(r.opt.Out, cellsDir, c.Name) }

// runAll runs what is waiting, and returns when all is done or has failed, or the
// context has ended.
func (r *runner) runAll(ctx context.Context) error {
	if len(r.waiting) == 0 {
		return nil
	}
	r.show = newLiveView(r)
	defer r.show.close()
	var workers sync.WaitGroup
	for range r.opt.Jobs {
		workers.Go(func() {
			for c := r.take(ctx); c != nil; c = r.take(ctx) {
				r.settle(ctx, c, r.attempt(ctx, c))
			}
		})
	}
	workers.Wait()
	if ctx.Err() != nil {
		return cli.Interrupted(fmt.Errorf("%d of %d cells done: %w", len(r.results), len(r.grid.Cells), trainer.ErrStopped))
	}
	return nil
}

// take returns the next cell to run, nil when there is none.
func (r *runner) take(ctx context.Context) *Cell {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ctx.Err() != nil || len(r.waiting) == 0 {
		return nil
	}
	c := r.waiting[0]
	r.waiting, r.running[c] = r.waiting[1:], true
	return c
}

// settle notes how a cell ended. One that another process works on comes back.
func (r *runner) settle(ctx context.Context, c *Cell, err error) {
	if errors.Is(err, trainer.ErrBusy) {
		select { // what else is waiting comes first
		case <-ctx.Done():
		case <-time.After(2 * time.Second):
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.running, c)
	switch {
	case err == nil:
	case errors.Is(err, trainer.ErrBusy):
		r.waiting = append(r.waiting, c)
	case ctx.Err() == nil:
		r.failed[c] = err
		r.show.logf("cell %s failed: %v", c.Name, err)
	}
}

// attempt runs a cell, twice if it fails.
func (r *runner) attempt(ctx context.Context, c *Cell) error {
	var err error
	for n := range attempts {
		if n > 0 {
			r.show.logf("cell %s: %v; once more, from its last checkpoint", c.Name, err)
		}
		if err = r.cell(ctx, c); err == nil || ctx.Err() != nil || errors.Is(err, trainer.ErrBusy) {
			return err
		}
	}
	return err
}

// cell trains and measures a cell, or takes the result of another process.
func (r *runner) cell(ctx context.Context, c *Cell) error {
	lock, err := r.lock(c)
	if err != nil {
		return err
	}
	defer lock.Close()
	res, err := r.grid.result(r.opt.Out, c)
	if err == nil && res == nil {
		res, err = r.train(ctx, c)
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	r.results[c] = res
	r.mu.Unlock()
	r.show.logf("%-24s validation %.4f nats a token, %.4f bits a byte%s", c.Name, res.ValLoss, res.BitsPerByte, recallLine(res))
	return nil
}

// lock keeps other processes from a cell until its result is written: the lock of its run
// ends before it is measured.
func (r *runner) lock(c *Cell) (*os.File, error) {
	if err := os.MkdirAll(r.dir(c), 0o755); err != nil {
		return nil, err
	}
	lock, err := filelock.Try(filepath.Join(r.dir(c), cellLock))
	if errors.Is(err, filelock.ErrHeld) {
		err = fmt.Errorf("cell %s: %w", c.Name, trainer.ErrBusy)
	}
	return lock, err
}

func (r *runner) train(ctx context.Context, c *Cell) (*Result, error) {
	dir := r.dir(c)
	log, err := os.OpenFile(filepath.Join(dir, logFile), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	if err := trainer.Run(ctx, c.Config, trainer.Options{Name: c.Name, Out: dir, Stdout: log}); err != nil {
		fmt.Fprintf(log, "%v\n", err)
		return nil, err
	}
	res, err := r.grid.measure(ctx, r.material, c, dir)
	if err != nil {
		return nil, err
	}
	return res, writeJSON(filepath.Join(dir, resultFile), res)
}

// recallLine is the mean accuracy of each task.
func recallLine(res *Result) string {
	sums, counts, order := map[string]float64{}, map[string]int{}, []string(nil)
	for _, s := range res.Recall {
		if counts[s.Task] == 0 {
			order = append(order, s.Task)
		}
		sums[s.Task] += float64(s.Accuracy)
		counts[s.Task]++
	}
	line := ""
	for _, task := range order {
		line += fmt.Sprintf(", %s %.0f%%", task, 100*sums[task]/float64(counts[task]))
	}
	return line
}
