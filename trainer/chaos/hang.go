package chaos

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"jambalaya/trainer"
	"jambalaya/trainer/report"
)

// hangRows leave a collective unanswered.
var hangRows = []row{
	{29, "a worker's disk stands still", "stacks and collective named in 60 s", standstill},
}

// standstill gives a worker a file to write to that takes no more after a while, as one
// on a network that has gone. It lives and sends heartbeats, but answers no collective.
// All workers have to print their stacks, those that wait the collective, and the
// coordinator who does not answer it. Then the file takes more, and training goes on.
func standstill(ctx context.Context, l *lab) (result, error) {
	const victim = 1
	dir, err := l.place("run")
	if err != nil {
		return result{}, err
	}
	pipe, err := stuckFile(filepath.Join(dir, trainer.AuditFile(victim)))
	if err != nil {
		return result{}, err
	}
	defer pipe.Close()
	patience := l.reps(5, 45) // the long form has the default
	c, err := l.resumeCrew(ctx, dir, 4, append(endless, set("trainer.audit=true", fmt.Sprintf("trainer.hang_seconds=%d", patience))...)...)
	if err != nil {
		return result{}, err
	}
	defer c.stopAll()
	defer func() { go io.Copy(io.Discard, pipe) }() // so that it can stop
	if _, err := c.trains(ctx, time.Now(), 0); err != nil {
		return result{}, err
	}
	last, stood, err := c.standsFor(ctx, time.Duration(patience)*time.Second/2)
	if err != nil {
		return result{}, err
	}
	seen, err := c.untilWithin(ctx, 2*time.Minute, "not all is said", func() (bool, error) {
		return explained(c.out.String(), c.size, victim), nil
	})
	if err != nil {
		return result{}, err
	}
	figure := fmt.Sprintf("%s after the last step, with patience for %d s, all 4 had printed their stacks, 3 the collective, and the coordinator who did not answer", secondsOf(seen.Sub(stood)), patience)
	go io.Copy(io.Discard, pipe)
	if _, err := c.until(ctx, "it does not go on", func() (bool, error) {
		now, ok := c.last()
		return ok && now.Step > last.Step+10, nil
	}); err != nil {
		return result{figure: figure}, err
	}
	if g, err := c.generation(); err != nil || g != 1 {
		return result{figure: figure}, fmt.Errorf("generation 1 became %d, %v", g, err)
	}
	return result{figure + "; the file took more, and it went on", seen.Sub(stood) <= time.Minute}, nil
}

// standsFor waits until no step has been taken for some time, and returns the last one and
// when it was seen.
func (c *crew) standsFor(ctx context.Context, enough time.Duration) (last report.Line, since time.Time, err error) {
	last, _ = c.last()
	since = time.Now()
	_, err = c.untilWithin(ctx, 5*time.Minute, "it does not stand still", func() (bool, error) {
		now, ok := c.last()
		if ok && now.Step != last.Step {
			last, since = now, time.Now()
		}
		return time.Since(since) > enough, nil
	})
	return last, since, err
}

// explained says whether the output of a run tells who holds it up, what each of the
// others waits for, and where every worker is.
func explained(text string, size, victim int) bool {
	want := []string{fmt.Sprintf("is not answered by worker %d,", victim), "(*audit).read"}
	for rank := range size {
		want = append(want, fmt.Sprintf("[%d] stacks of this worker:", rank))
		if rank != victim {
			want = append(want, fmt.Sprintf("[%d] warning: not answered: ", rank))
		}
	}
	return !slices.ContainsFunc(want, func(w string) bool { return !strings.Contains(text, w) })
}

// stuckFile makes a file that takes a few kilobytes and then no more, until it is read.
func stuckFile(name string) (*os.File, error) {
	if err := makePipe(name); err != nil {
		return nil, err
	}
	// Open for both, so that neither end waits for the other to be opened.
	pipe, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	filler := make([]byte, 4<<10)
	for err == nil {
		if err = pipe.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err == nil {
			_, err = pipe.Write(filler)
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) { // full; now there is a little room again
		_, err = io.ReadFull(pipe, filler)
	}
	return pipe, err
}
