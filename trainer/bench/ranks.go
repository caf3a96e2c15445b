package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/internal/human"
	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
	"jambalaya/trainer"
)

// RanksOptions choose the steps to be measured.
type RanksOptions struct {
	Preset string   // name or file of a configuration; its batch is that of each rank
	Set    []string // assignments, as of the command line
	Worlds []int    // numbers of ranks
	Expert int      // columns of the mesh, in worlds that have as many ranks
	Steps  int      // steps to time
}

// RanksReport is what steps cost on several numbers of ranks.
type RanksReport struct {
	Host Host
	Rows []RanksRow
}

// RanksRow is a world. Times are those of the median step, of rank 0.
type RanksRow struct {
	Name       string  `json:"name"`
	Data       int     `json:"data"`
	Expert     int     `json:"expert"`
	MS         float64 `json:"ms"`
	BestMS     float64 `json:"ms_best"`
	Tokens     float64 `json:"tokens_per_s"` // of all ranks
	Efficiency float64 `json:"efficiency"`   // tokens/s of a rank over those of the first world's
	Reduction  float64 `json:"reduction_ms"` // gradients were under way, on average
	Hidden     float64 `json:"hidden"`       // share of it that took no time of its own
	Exchange   float64 `json:"exchange_ms"`  // rows of experts were under way, on average
	Ways       string  `json:"ways"`
}

// Ranks measures optimiser steps of a configuration on several numbers of ranks, which
// are goroutines of this process with a device each.
func Ranks(ctx context.Context, opt RanksOptions) (RanksReport, error) {
	cfg, err := trainer.LoadPreset(opt.Preset, opt.Set...)
	if err != nil {
		return RanksReport{}, cli.Config(err)
	}
	if opt.Steps < 1 || opt.Expert < 1 || len(opt.Worlds) == 0 || slices.Min(opt.Worlds) < 1 {
		return RanksReport{}, cli.Config(fmt.Errorf("--ranks %v, --expert %d, --steps %d: want 1 or more", opt.Worlds, opt.Expert, opt.Steps))
	}
	var r RanksReport
	for _, n := range opt.Worlds {
		row, path, err := world(ctx, cfg, n, opt)
		if err != nil {
			return r, fmt.Errorf("%d ranks: %w", n, err)
		}
		row.Name = "ranks " + opt.Preset
		r.Host = newHost(path, cfg.Trainer.Threads)
		r.Rows = append(r.Rows, row)
		first := r.Rows[0]
		r.Rows[len(r.Rows)-1].Efficiency = row.Tokens / float64(n) / (first.Tokens / float64(first.Data*first.Expert))
	}
	return r, nil
}

// world measures n ranks.
func world(ctx context.Context, cfg trainer.Config, n int, opt RanksOptions) (RanksRow, string, error) {
	cfg.Trainer.BatchSize *= n
	if n >= opt.Expert {
		cfg.Parallel.Expert = opt.Expert
	}
	cfg, err := cfg.OnRanks(n)
	if err != nil {
		return RanksRow{}, "", err
	}
	rows, paths, errs := make([]RanksRow, n), make([]string, n), make([]error, n)
	network := inproc.New(n, nil)
	var all sync.WaitGroup
	for rank := range n {
		all.Go(func() {
			t, err := network.Join(parallel.Identity{Run: 1, Generation: 1}, rank)
			if err == nil {
				rows[rank], paths[rank], err = timeRank(ctx, cfg, t, opt.Steps)
				if err != nil {
					t.Abort(err)
				}
				t.Close()
			}
			errs[rank] = err
		})
	}
	all.Wait()
	return rows[0], paths[0], errors.Join(errs...)
}

// timeRank is one rank's part of a measurement.
func timeRank(ctx context.Context, cfg trainer.Config, t parallel.Transport, steps int) (RanksRow, string, error) {
	d, err := trainer.OpenLocalDevice(cfg.Trainer.Device, cfg.Trainer.Threads, t.Rank())
	if err != nil {
		return RanksRow{}, "", err
	}
	defer d.Close()
	r, err := trainer.NewRehearsal(d, cfg, &trainer.World{Transport: t, Local: t.Rank()})
	if err != nil {
		return RanksRow{}, "", err
	}
	defer r.Close()
	if _, err := timeSteps(ctx, r, 1); err != nil {
		return RanksRow{}, "", err
	}
	reduced, exchanged := r.Reductions(), r.Exchanges()
	times, err := timeSteps(ctx, r, steps)
	if err != nil {
		return RanksRow{}, "", err
	}
	slices.Sort(times)
	ms := func(d time.Duration) float64 { return d.Seconds() * 1e3 }
	now := r.Reductions()
	reductions := parallel.Times{Busy: now.Busy - reduced.Busy, Blocked: now.Blocked - reduced.Blocked}
	average := time.Duration(steps + warmUps)
	row := RanksRow{Data: cfg.Parallel.Data, Expert: cfg.Parallel.Expert, MS: ms(times[len(times)/2]), BestMS: ms(times[0]),
		Reduction: ms(reductions.Busy / average), Hidden: reductions.Hidden(), Exchange: ms((r.Exchanges() - exchanged) / average), Ways: r.Ways()}
	row.Tokens = float64(r.Tokens()*t.Size()) / row.MS * 1e3
	return row, d.Path, nil
}

// Print writes a table for people.
func (r RanksReport) Print(w io.Writer) error {
	fmt.Fprintf(w, "%s\n%s\n\n", r.Host, r.Rows[len(r.Rows)-1].Ways)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "mesh\tms/step\tbest\ttokens/s\tefficiency\treductions\thidden\texchanges\t")
	for _, x := range r.Rows {
		fmt.Fprintf(t, "%dx%d\t%.2f\t%.2f\t%s\t%.1f%%\t%.2f ms\t%.0f%%\t%.2f ms\t\n", x.Data, x.Expert, x.MS, x.BestMS, human.Count(x.Tokens), 100*x.Efficiency,
			x.Reduction, 100*x.Hidden, x.Exchange)
	}
	return t.Flush()
}

// JSON writes an object a line.
func (r RanksReport) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	for _, x := range r.Rows {
		if err := enc.Encode(x); err != nil {
			return err
		}
	}
	return nil
}
