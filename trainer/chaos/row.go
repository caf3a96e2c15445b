package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// ErrMissed is returned when a row missed its target.
var ErrMissed = errors.New("missed")

// errSkip is returned by a row that cannot run here.
type errSkip struct{ reason string }

func (e errSkip) Error() string { return e.reason }

// row is one test of the scorecard.
type row struct {
	number int
	name   string
	target string
	run    func(ctx context.Context, l *lab) (result, error)
}

// result is what a row measured.
type result struct {
	figure string
	met    bool
}

// Verdicts of a row.
const (
	Met     = "met"
	Missed  = "missed"
	Skipped = "skipped"
)

// Report is a line of the scorecard.
type Report struct {
	Row     int     `json:"row"`
	Name    string  `json:"name"`
	Target  string  `json:"target"`
	Figure  string  `json:"figure"`
	Verdict string  `json:"verdict"`
	Seconds float64 `json:"seconds"`
	Seed    uint64  `json:"seed"`
	Short   bool    `json:"short"`
}

// rows is the scorecard, by number.
func rows() []row {
	all := slices.Concat(singleRows, crewRows, auditRows, diskRows, inputRows, rateRows, guardRows, networkRows, hangRows)
	slices.SortFunc(all, func(a, b row) int { return a.number - b.number })
	return all
}

// Numbers lists the rows there are.
func Numbers() []int {
	var numbers []int
	for _, r := range rows() {
		numbers = append(numbers, r.number)
	}
	return numbers
}

// runRow runs a row and turns its end into a line.
func runRow(ctx context.Context, l *lab, r row) (Report, error) {
	start := time.Now()
	res, err := r.run(ctx, l)
	if ctx.Err() != nil {
		return Report{}, ctx.Err()
	}
	rep := Report{Row: r.number, Name: r.name, Target: r.target, Figure: res.figure, Verdict: Missed,
		Seconds: time.Since(start).Seconds(), Seed: l.opt.Seed, Short: l.opt.Short}
	var skip errSkip
	switch {
	case errors.As(err, &skip):
		rep.Verdict, rep.Figure = Skipped, skip.reason
	case err != nil:
		rep.Figure = strings.TrimPrefix(res.figure+"; "+err.Error(), "; ")
	case res.met:
		rep.Verdict = Met
	}
	return rep, nil
}

// printer writes the lines of the scorecard.
type printer struct {
	out  io.Writer
	json bool
}

const lineFormat = "%3s  %-34s  %-44s  %-7s  %7s  %s\n"

func (p printer) head() {
	if !p.json {
		fmt.Fprintf(p.out, lineFormat, "row", "test", "target", "verdict", "seconds", "figure")
	}
}

func (p printer) line(r Report) error {
	if p.json {
		return json.NewEncoder(p.out).Encode(r)
	}
	_, err := fmt.Fprintf(p.out, lineFormat, fmt.Sprint(r.Row), r.Name, r.Target, r.Verdict, fmt.Sprintf("%.1f", r.Seconds), r.Figure)
	return err
}
