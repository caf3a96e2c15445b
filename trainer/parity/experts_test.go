package parity

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
)

// rows are ranks that share experts out, as package model sees them.
type rows struct{ parallel.Group }

func (r rows) Counts(mine, all []int32) error {
	copy(all[r.Rank()*len(mine):], mine)
	counts := make([]int, r.Size())
	for i := range counts {
		counts[i] = len(mine)
	}
	return parallel.AllGather(context.Background(), r.Group, parallel.Op{Name: "counts"}, all, counts)
}

func (r rows) AllToAll(send []byte, sendCounts []int, recv []byte, recvCounts []int) error {
	return r.Group.AllToAll(context.Background(), parallel.Op{Name: "rows"}, send, sendCounts, recv, recvCounts)
}

// TestGoldenExperts: ranks that share the experts out have the recorded gradients. All
// compute the whole batch, each with its part of the seeds, as the reference takes the
// load-balancing loss over the batch.
func TestGoldenExperts(t *testing.T) {
	t.Parallel()
	dirs, err := filepath.Glob("../../model/testdata/golden/*/config.json")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, config := range dirs {
		for _, ranks := range []int{2, 4} {
			dir := filepath.Dir(config)
			c, err := openCase(dir)
			if err != nil {
				t.Fatal(err)
			}
			shares := hasExperts(c.model.Config) && c.model.Config.NumExperts%ranks == 0
			c.close()
			if !shares {
				continue
			}
			ran++
			t.Run(fmt.Sprintf("%s on %d ranks", filepath.Base(dir), ranks), func(t *testing.T) { goldenExperts(t, dir, ranks) })
		}
	}
	if ran < 8 {
		t.Errorf("only %d cases have experts to share out", ran)
	}
}

func hasExperts(c model.Config) bool {
	for _, p := range c.Params() {
		if p.Expert {
			return true
		}
	}
	return false
}

func goldenExperts(t *testing.T, dir string, ranks int) {
	c, err := openCase(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	values, err := c.model.Values()
	if err != nil {
		t.Fatal(err)
	}
	ids, shape, err := c.ints("input_ids")
	if err != nil {
		t.Fatal(err)
	}
	network := inproc.New(ranks, nil)
	all, errs := make([][][]float32, ranks), make([]error, ranks)
	var wg sync.WaitGroup
	for rank := range ranks {
		wg.Go(func() { all[rank], errs[rank] = expertRank(c.model.Config, network, rank, ranks, values, ids, shape) })
	}
	wg.Wait()
	for rank, err := range errs {
		if err != nil {
			t.Fatalf("rank %d: %v", rank, err)
		}
	}
	r := &runner{c: c, tol: DefaultTolerances(), report: &Report{Name: c.name}}
	if err := r.compareGrads(joinGrads(c.model.Config, all)); err != nil {
		t.Fatal(err)
	}
	t.Logf("%v", r.report)
	if !r.report.Pass() {
		t.Error("differs from the reference")
	}
}

// joinGrads adds up what all ranks have, and puts their experts together.
func joinGrads(c model.Config, all [][][]float32) [][]float32 {
	grads := all[0]
	for _, of := range all[1:] {
		for i, p := range c.Params() {
			if p.Expert {
				grads[i] = append(grads[i], of[i]...)
				continue
			}
			for j, g := range of[i] {
				grads[i][j] += g
			}
		}
	}
	return grads
}

// expertRank computes the gradients of one rank.
func expertRank(c model.Config, network *inproc.Network, rank, ranks int, values [][]float32, ids []int32, shape []int) ([][]float32, error) {
	transport, err := network.Join(parallel.Identity{Run: 1, Generation: 1}, rank)
	if err != nil {
		return nil, err
	}
	group, err := parallel.NewGroup(transport, "tokens", parallel.Mesh{Data: 1, Expert: ranks}.World(), parallel.GroupOptions{})
	if err != nil {
		return nil, err
	}
	be := cpu.New(1)
	defer be.Close()
	n := c.NumExperts / ranks
	layout := model.NewLayout(c, model.ExpertRange{Lo: rank * n, Hi: (rank + 1) * n})
	w, err := model.NewShardedWeights(be, layout, nil, model.Precision{})
	if err != nil {
		return nil, err
	}
	for i, p := range w.Params {
		from := 0
		if p.Expert {
			from = rank * p.Size()
		}
		if err := be.Write(w.Param(w.Value, i), values[i][from:from+p.Size()]); err != nil {
			return nil, err
		}
	}
	g, err := model.NewTrainingGraph(c, shape[0], shape[1], model.GraphOptions{Experts: layout.Experts})
	if err != nil {
		return nil, err
	}
	exchange := model.NewExchange(be, rows{group}, 1.25)
	defer exchange.Close()
	plan, err := engine.NewPlan(g.Program, be, engine.Options{Bind: w.Bind(g.Params, g.Grads, g.Sums), Exchange: exchange.Kernels()})
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	s := &step{graph: g, plan: plan, be: be, share: 1 / float64(ranks)}
	if _, _, err := s.run(ids); err != nil {
		return nil, err
	}
	return readGrads(be, w)
}
