package launch

import (
	"strings"
	"testing"

	"jambalaya/configs"
	"jambalaya/internal/cli"
	"jambalaya/trainer"
)

// TestScheduled: what a worker that was started by itself makes of the number of those that
// were, and what it cannot do.
func TestScheduled(t *testing.T) {
	t.Parallel()
	slurm := func(world int) Place { return Place{World: world, Master: "a:1", Source: "SLURM_PROCID"} }
	joins := Options{Joining: true, Place: Place{Rank: -1, Master: "a:1"}}
	for _, c := range []struct {
		set          []string
		opt          Options
		data, expert int
		fault        string
	}{
		{opt: Options{Place: slurm(4)}, data: 4, expert: 1},
		{set: []string{"parallel.expert=2"}, opt: Options{Place: slurm(4)}, data: 2, expert: 2},
		{set: []string{"parallel.expert=4"}, opt: Options{Place: slurm(4)}, data: 1, expert: 4},
		{set: []string{"parallel.data=2"}, opt: Options{Place: slurm(3)}, data: 2, expert: 1}, // one waits
		{set: []string{"parallel.data=2"}, opt: joins, data: 2, expert: 1},
		{opt: Options{Place: Place{Rank: -1, Master: "a:1"}}, data: 1, expert: 1},
		{set: []string{"parallel.expert=2"}, opt: Options{Place: slurm(3)}, fault: "parallel.expert: 2 does not divide the 3 workers there are"},
		{opt: Options{Place: slurm(3)}, fault: "which does not divide the global batch"},
		{opt: Options{Place: Place{Master: "a:1", Source: "JOB_COMPLETION_INDEX"}}, fault: "parallel.data: how many workers there are is not known"},
		{opt: joins, fault: "parallel.data: a mesh of size 1 has no room for others"},
		{opt: Options{Fresh: true, Place: slurm(4)}, fault: "--fresh: "},
	} {
		file, err := configs.Load("nano")
		if err != nil {
			t.Fatal(err)
		}
		cfg, _, err := trainer.LoadConfig(file, c.set)
		if err != nil {
			t.Fatal(err)
		}
		cfg, err = scheduled(cfg, c.opt)
		switch got := cfg.Parallel; {
		case c.fault != "":
			if err == nil || !strings.Contains(err.Error(), c.fault) || cli.Code(err) != cli.CodeConfig {
				t.Errorf("%v, %+v: %v, want %s", c.set, c.opt, err, c.fault)
			}
		case err != nil || got.Data != c.data || got.Expert != c.expert:
			t.Errorf("%v, %+v: %d x %d, %v; want %d x %d", c.set, c.opt, got.Data, got.Expert, err, c.data, c.expert)
		}
	}
}
