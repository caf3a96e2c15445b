package model

import (
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/engine"
)

// BenchmarkStep runs forward and backward of a small model in steady state and
// reports tokens a second, and the memory with and without the plan.
func BenchmarkStep(b *testing.B) {
	cfg := Default()
	const batch, length = 4, 256
	be := cpu.New(0)
	defer be.Close()
	g, err := NewTrainingGraph(cfg, batch, length, GraphOptions{})
	if err != nil {
		b.Fatal(err)
	}
	w, err := NewWeights(be, cfg, true)
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Init(1); err != nil {
		b.Fatal(err)
	}
	plan, err := engine.NewPlan(g.Program, be, engine.Options{Bind: w.Bind(g.Params, g.Grads, g.Sums)})
	if err != nil {
		b.Fatal(err)
	}
	defer plan.Close()
	tokens, targets, docs := sample(1, cfg.VocabSize, batch, 100, 156)
	for v, host := range map[engine.ValueID]any{g.Tokens: tokens, g.Targets: targets, g.Docs: docs,
		g.SeedLoss: []float32{1}, g.SeedAux: []float32{1}} {
		if err := be.Write(plan.Tensor(v), host); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := plan.Run(); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(batch*length*b.N)/b.Elapsed().Seconds(), "tokens/s")
	b.ReportMetric(float64(plan.Usage().Arena)/(1<<20), "MiB-planned")
	b.ReportMetric(float64(plan.Usage().Sum)/(1<<20), "MiB-without-reuse")
}
