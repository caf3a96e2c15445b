package chaos

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"

	"jambalaya/internal/cli"
)

// Options of a scorecard.
type Options struct {
	Rows  []int  // numbers; none: all
	Short bool   // fewer repetitions: minutes for all rows
	Retry int    // how often a row that missed runs again: where others use the machine, times are no verdict
	JSON  bool   // an object a line
	Seed  uint64 // of what is drawn by chance
	Train string // binary of the train command; "": it is built
	Dir   string // of the processes' runs and output, which stays; "": a temporary one
	Out   io.Writer
}

// Run runs rows one after the other and prints a line for each.
func Run(ctx context.Context, opt Options) error {
	all := rows()
	for _, n := range opt.Rows {
		if !slices.Contains(Numbers(), n) {
			return cli.Config(fmt.Errorf("there is no row %d; the rows are %v", n, Numbers()))
		}
	}
	l, err := openLab(ctx, opt)
	if err != nil {
		return err
	}
	p := printer{out: opt.Out, json: opt.JSON}
	p.head()
	var missed []int
	for _, r := range all {
		if len(opt.Rows) > 0 && !slices.Contains(opt.Rows, r.number) {
			continue
		}
		verdict, err := tryRow(ctx, l, r, p)
		if err != nil {
			return err
		}
		if verdict == Missed {
			missed = append(missed, r.number)
		}
	}
	if len(missed) > 0 {
		return fmt.Errorf("%w: rows %v; what the processes said is in %s", ErrMissed, missed, l.dir)
	}
	if opt.Dir == "" {
		return os.RemoveAll(l.dir)
	}
	return nil
}

// tryRow runs a row, again if it missed and may be retried, prints a line each time,
// and returns the last verdict.
func tryRow(ctx context.Context, l *lab, r row, p printer) (string, error) {
	l.row = r.number
	for l.try = 0; ; l.try++ {
		rep, err := runRow(ctx, l, r)
		if err != nil {
			return "", err
		}
		if err := p.line(rep); err != nil {
			return "", err
		}
		if rep.Verdict != Missed || l.try == l.opt.Retry {
			return rep.Verdict, nil
		}
		l.killed = nil // measured anew
	}
}
