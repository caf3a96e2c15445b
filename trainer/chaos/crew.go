package chaos

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/internal/vfs"
	"jambalaya/parallel/cluster"
	"jambalaya/trainer/report"
)

// crew is a run of several workers on this machine, started by one launcher.
type crew struct {
	*process
	l    *lab
	dir  string // of the run
	size int
}

// shared makes the tiny model one that 1 to 4 workers, or 8, can share.
var shared = set("trainer.batch_size=24", "data.sequence_length=16", "parallel.restarts=1000")

// startCrew starts a run of several workers.
func (l *lab) startCrew(ctx context.Context, name string, size int, more ...string) (*crew, error) {
	dir, err := l.place(name)
	if err != nil {
		return nil, err
	}
	return l.resumeCrew(ctx, dir, size, more...)
}

// trainingCrew starts a run of several workers and waits until it trains.
func (l *lab) trainingCrew(ctx context.Context, name string, size int, more ...string) (*crew, error) {
	c, err := l.startCrew(ctx, name, size, more...)
	if err != nil {
		return nil, err
	}
	if _, err := c.trains(ctx, time.Now(), 0); err != nil {
		return nil, errors.Join(err, c.stopAll())
	}
	return c, nil
}

// resumeCrew starts the run of a directory again.
func (l *lab) resumeCrew(ctx context.Context, dir string, size int, more ...string) (*crew, error) {
	args := append(l.arguments(dir, shared...), "--nproc", strconv.Itoa(size), "--metrics", "off")
	p, err := l.start(ctx, l.train, append(args, more...)...)
	if err != nil {
		return nil, err
	}
	return &crew{p, l, dir, size}, nil
}

var startedWorker = regexp.MustCompile(`(?m)^worker (\d+): process (\d+)$`)

// pid is the process of a worker, as last started.
func (c *crew) pid(rank int) (int, error) {
	pid := 0
	for _, m := range startedWorker.FindAllStringSubmatch(c.out.String(), -1) {
		if m[1] == strconv.Itoa(rank) {
			pid, _ = strconv.Atoi(m[2]) // digits
		}
	}
	if pid == 0 {
		return 0, fmt.Errorf("worker %d was not started: %s", rank, c.lastLine())
	}
	return pid, nil
}

// send sends a signal to a worker and returns when.
func (c *crew) send(rank int, s syscall.Signal) (time.Time, error) {
	pid, err := c.pid(rank)
	if err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	if err := syscall.Kill(pid, s); err != nil && !errors.Is(err, syscall.ESRCH) {
		return now, fmt.Errorf("worker %d: %w", rank, err)
	}
	return now, nil
}

// strike sends a signal to a worker, and returns when and in which generation.
func (c *crew) strike(rank int, s syscall.Signal) (at time.Time, generation uint64, err error) {
	if generation, err = c.generation(); err != nil {
		return at, 0, err
	}
	at, err = c.send(rank, s)
	return at, generation, err
}

// root opens the run's directory.
func (c *crew) root() (*vfs.DirFS, error) { return vfs.Dir(c.dir) }

// generations reads the log.
func (c *crew) generations() ([]cluster.Generation, error) {
	text, err := os.ReadFile(filepath.Join(c.dir, "GENERATIONS"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []cluster.Generation
	for line := range bytes.Lines(text) {
		_, body, _ := bytes.Cut(line, []byte(" "))
		var g cluster.Generation
		if json.Unmarshal(body, &g) == nil {
			list = append(list, g)
		}
	}
	return list, nil
}

// generation is the latest number, 0 before the first.
func (c *crew) generation() (uint64, error) {
	list, err := c.generations()
	if err != nil || len(list) == 0 {
		return 0, err
	}
	return list[len(list)-1].Number, nil
}

// holder is the name of a worker and of its process.
var holder = regexp.MustCompile(`^(?:worker-)?(\d+)-`)

// coordinator is the worker that holds the lease.
func (c *crew) coordinator() (rank int, term uint64, err error) {
	root, err := c.root()
	if err != nil {
		return 0, 0, err
	}
	defer root.Close()
	lease, err := cluster.ReadLease(root, ".")
	if err != nil {
		return 0, 0, err
	}
	m := holder.FindStringSubmatch(lease.Holder)
	if m == nil {
		return 0, lease.Term, fmt.Errorf("holder of the lease: %q", lease.Holder)
	}
	rank, err = strconv.Atoi(m[1])
	return rank, lease.Term, err
}

// last is the newest line of the metrics.
func (c *crew) last() (report.Line, bool) {
	var line report.Line
	text, err := tail(filepath.Join(c.dir, "metrics.jsonl"))
	if err != nil {
		return line, false
	}
	return line, json.Unmarshal(text, &line) == nil
}

// tail returns the last complete line of a file.
func tail(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	text := make([]byte, min(info.Size(), 8<<10))
	if _, err := f.ReadAt(text, info.Size()-int64(len(text))); err != nil {
		return nil, err
	}
	end := bytes.LastIndexByte(text, '\n')
	if end < 0 {
		return nil, errors.New("no line")
	}
	return text[bytes.LastIndexByte(text[:end], '\n')+1 : end], nil
}

// until polls for a condition, often, for at most a minute.
func (c *crew) until(ctx context.Context, what string, holds func() (bool, error)) (time.Time, error) {
	return c.untilWithin(ctx, time.Minute, what, holds)
}

// untilWithin polls for a condition. A time for which everything here was stopped, as when
// a laptop sleeps, does not use the patience up.
func (c *crew) untilWithin(ctx context.Context, patience time.Duration, what string, holds func() (bool, error)) (time.Time, error) {
	began := c.l.awake.now()
	for {
		ok, err := holds()
		now := time.Now()
		if ok || err != nil {
			return now, err
		}
		if c.l.awake.now()-began > patience {
			return now, fmt.Errorf("%s: not within %v; the run said last: %s", what, patience, c.lastLine())
		}
		select {
		case <-c.done:
			if ok, err := holds(); ok || err != nil {
				return time.Now(), err
			}
			return now, fmt.Errorf("%s: the run has ended (%s): %s", what, c.cmd.ProcessState, c.lastLine())
		case <-ctx.Done():
			return now, ctx.Err()
		case <-time.After(3 * time.Millisecond):
		}
	}
}

// trains waits for a step that was taken after a moment, and after a generation was
// made that is newer than one.
func (c *crew) trains(ctx context.Context, after time.Time, generation uint64) (time.Time, error) {
	return c.until(ctx, "no step is taken", func() (bool, error) {
		now, err := c.generation()
		if err != nil || now <= generation {
			return false, err
		}
		line, ok := c.last()
		return ok && line.Step > 0 && clock(line) > seconds(after), nil
	})
}

func clock(l report.Line) float64      { return float64(l.Time) }
func seconds(t time.Time) float64      { return float64(t.UnixMilli()) / 1e3 }
func secondsOf(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// endsLike waits for the end of the run and compares it.
func (c *crew) endsLike(ctx context.Context, want outcome) error {
	if code := c.code(); code != cli.CodeOK {
		return fmt.Errorf("exit code %d: %s", code, c.lastLine())
	}
	got, err := outcomeOf(ctx, c.dir)
	if err != nil {
		return err
	}
	if d := got.differs(want); d != "" {
		return errors.New(d)
	}
	return c.numbersGrow()
}

// numbersGrow wants no generation to have been used twice.
func (c *crew) numbersGrow() error {
	list, err := c.generations()
	for i := 1; i < len(list); i++ {
		if list[i].Number <= list[i-1].Number || list[i].Term < list[i-1].Term {
			return fmt.Errorf("generation %d of term %d follows generation %d of term %d", list[i].Number, list[i].Term, list[i-1].Number, list[i-1].Term)
		}
	}
	return err
}

// crewReference runs several workers without a fault.
func (l *lab) crewReference(ctx context.Context, size int, more ...string) (outcome, error) {
	l.count++
	c, err := l.startCrew(ctx, fmt.Sprintf("reference%d", l.count), size, more...)
	if err != nil {
		return outcome{}, err
	}
	if code := c.code(); code != cli.CodeOK {
		return outcome{}, fmt.Errorf("reference run: exit code %d: %s", code, c.lastLine())
	}
	return outcomeOf(ctx, c.dir)
}

// ends returns when the coordinator said, after a moment, that a generation ends, or
// when there was another one.
func (c *crew) ends(ctx context.Context, after time.Time, generation uint64) (time.Time, error) {
	var said time.Time
	seen, err := c.until(ctx, fmt.Sprintf("generation %d does not end", generation), func() (bool, error) {
		var ok bool
		if said, ok = c.out.when(after, fmt.Sprintf("generation %d ends", generation)); ok {
			return true, nil
		}
		now, err := c.generation()
		return now > generation, err
	})
	if said.IsZero() {
		return seen, err
	}
	return said, err
}

// quantile returns the value below which a share of the durations lies.
func quantile(all []time.Duration, share float64) time.Duration {
	if len(all) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[min(len(sorted)-1, int(share*float64(len(sorted))))]
}

// stopAll ends a run that has served its purpose.
func (c *crew) stopAll() error {
	_ = c.signal(syscall.SIGTERM) // it may have ended
	select {
	case <-c.done:
		return nil
	case <-time.After(30 * time.Second):
		return errors.Join(errors.New("the run does not stop within 30 s"), c.kill())
	}
}

// line is what was printed at a time.
type line struct {
	at   time.Time
	text string
}

// when returns the time of the first line after a moment that has a text.
func (o *output) when(after time.Time, text string) (time.Time, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, l := range o.lines {
		if !l.at.Before(after) && strings.Contains(l.text, text) {
			return l.at, true
		}
	}
	return time.Time{}, false
}
