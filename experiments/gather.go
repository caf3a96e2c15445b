package experiments

import (
	"context"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"

	"jambalaya/internal/cli"
)

// Report writes the report of the cells that are done, from their files alone: on
// any machine, and while others run. What was not measured stays open.
func Report(g *Grid, opt Options) error {
	if _, err := os.Stat(filepath.Join(opt.Out, gridFile)); err != nil {
		return cli.Config(fmt.Errorf("%w: %s has no %s: there is no grid to report on", ErrOtherGrid, opt.Out, gridFile))
	}
	if err := openOut(g, opt.Out); err != nil {
		return err
	}
	r := &runner{grid: g, opt: opt}
	if err := r.load(); err != nil {
		return err
	}
	set := r.set()
	for a, c := range r.measurable() {
		k, err := r.costs(c)
		if err != nil {
			return err
		}
		if k != nil {
			set.Costs[a] = k
		}
	}
	return set.write(opt)
}

// measured gathers all results, and measures each variant's costs where that has not
// been done.
func (r *runner) measured(ctx context.Context) (*Results, error) {
	set := r.set()
	if err := os.MkdirAll(filepath.Join(r.opt.Out, costsDir), 0o755); err != nil {
		return nil, err
	}
	for a, c := range r.measurable() {
		k, err := r.costs(c)
		if err != nil {
			return nil, err
		}
		if k == nil {
			if k, err = r.grid.costs(ctx, c); err != nil {
				return nil, err
			}
			if err := writeJSON(r.costFile(c), k); err != nil {
				return nil, err
			}
		}
		set.Costs[a] = k
	}
	return set, nil
}

func (r *runner) set() *Results {
	return &Results{Grid: r.grid, Cells: r.results, Failed: r.failed, Costs: map[*Arm]*Costs{}, Out: r.opt.Out, Jobs: r.opt.Jobs}
}

// measurable yields each variant that has a result, in order, with a cell of it.
func (r *runner) measurable() iter.Seq2[*Arm, *Cell] {
	return func(yield func(*Arm, *Cell) bool) {
		for _, a := range r.grid.Arms {
			i := slices.IndexFunc(r.grid.Cells, func(c *Cell) bool { return c.Arm == a && r.results[c] != nil })
			if i >= 0 && !yield(a, r.grid.Cells[i]) {
				return
			}
		}
	}
}

func (r *runner) costFile(c *Cell) string {
	return filepath.Join(r.opt.Out, costsDir, directoryName(c.Arm.Name)+".json")
}

// costs reads what was measured of a cell's variant, nil if nothing was.
func (r *runner) costs(c *Cell) (*Costs, error) {
	k := &Costs{}
	found, err := readJSON(r.costFile(c), k)
	if err != nil || !found || !r.ofVariant(c, k.ConfigHash) {
		return nil, err
	}
	return k, nil
}

// ofVariant reports whether a hash is of a cell of the same variant.
func (r *runner) ofVariant(c *Cell, hash string) bool {
	return slices.ContainsFunc(r.grid.Cells, func(other *Cell) bool { return other.Arm == c.Arm && other.Hash == hash })
}

// write writes the report and tells where it is.
func (s *Results) write(opt Options) error {
	if err := writeReport(s, opt.Out); err != nil {
		return err
	}
	fmt.Fprintf(opt.Stdout, "%s\nreport: %s\n", s.Verdict(), filepath.Join(opt.Out, reportHTML))
	return nil
}
