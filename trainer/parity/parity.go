package parity

import (
	"fmt"
	"math"

	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/model/op"
)

// Run compares the model on a backend with the case in dir.
func Run(be engine.Backend, dir string, tol Tolerances) (*Report, error) {
	c, err := openCase(dir)
	if err != nil {
		return nil, err
	}
	defer c.close()
	r := &runner{be: be, c: c, tol: tol, report: &Report{Name: c.name}}
	for _, part := range []func() error{r.gradients, r.adamW, r.greedy} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	return r.report, nil
}

type runner struct {
	be     engine.Backend
	c      *goldenCase
	tol    Tolerances
	report *Report
}

// load returns the case's weights on the backend.
func (r *runner) load(trains bool) (*model.Weights, error) {
	w, err := model.NewWeights(r.be, r.c.model.Config, trains)
	if err != nil {
		return nil, err
	}
	values, err := r.c.model.Values()
	if err != nil {
		return nil, err
	}
	for i, v := range values {
		if err := r.be.Write(w.Param(w.Value, i), v); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// step is the forward and backward pass over batches of one shape.
type step struct {
	graph *model.TrainingGraph
	plan  *engine.Plan
	be    engine.Backend
	share float64 // of the seeds of the gradient
}

func (r *runner) newStep(w *model.Weights, batch, length int, inspect bool) (*step, error) {
	g, err := model.NewTrainingGraph(r.c.model.Config, batch, length, model.GraphOptions{Inspect: inspect})
	if err != nil {
		return nil, err
	}
	plan, err := engine.NewPlan(g.Program, r.be, engine.Options{Bind: w.Bind(g.Params, g.Grads, g.Sums)})
	if err != nil {
		return nil, err
	}
	return &step{graph: g, plan: plan, be: r.be, share: 1}, nil
}

// run is a pass over ids[B,L]: the labels are the inputs, position t predicts
// t+1, and the loss is the mean over B (L-1) targets plus the load-balancing loss.
func (s *step) run(ids []int32) (loss, aux float64, err error) {
	g := s.graph
	targets := make([]int32, len(ids))
	for i := range targets {
		targets[i] = -100
		if (i+1)%g.Length != 0 {
			targets[i] = ids[i+1]
		}
	}
	count := float64(g.Batch * (g.Length - 1))
	coef := g.Config.RouterAuxLossCoef
	for _, in := range []struct {
		v    engine.ValueID
		host any
	}{{g.Tokens, ids}, {g.Targets, targets}, {g.Docs, make([]int32, len(ids))},
		{g.SeedLoss, []float32{float32(s.share / count)}}, {g.SeedAux, []float32{float32(s.share * coef)}}} {
		if in.v >= 0 {
			if err := s.be.Write(s.plan.Tensor(in.v), in.host); err != nil {
				return 0, 0, err
			}
		}
	}
	if err := s.plan.Run(); err != nil {
		return 0, 0, err
	}
	sum, err := s.floats(g.Loss)
	if err != nil {
		return 0, 0, err
	}
	loss = float64(sum[0]) / count
	if g.Aux >= 0 {
		a, err := s.floats(g.Aux)
		if err != nil {
			return 0, 0, err
		}
		aux = float64(a[0])
		loss += coef * aux
	}
	return loss, aux, nil
}

func (s *step) floats(v engine.ValueID) ([]float32, error) {
	t := s.plan.Tensor(v)
	x := make([]float32, t.Size())
	return x, s.be.Read(x, t)
}

// gradients compares hidden states, logits, losses and gradients of one batch.
func (r *runner) gradients() error {
	ids, shape, err := r.c.ints("input_ids")
	if err != nil {
		return err
	}
	w, err := r.load(true)
	if err != nil {
		return err
	}
	s, err := r.newStep(w, shape[0], shape[1], true)
	if err != nil {
		return err
	}
	defer s.plan.Close()
	loss, aux, err := s.run(ids)
	if err != nil {
		return err
	}
	for i, v := range s.graph.Hidden {
		if err := r.compare(s, v, fmt.Sprintf("hidden.%d", i)); err != nil {
			return err
		}
	}
	if err := r.compare(s, s.graph.Logits, "logits"); err != nil {
		return err
	}
	for _, x := range []struct {
		name string
		got  float64
	}{{"loss", loss}, {"aux_loss", aux}} {
		if !r.c.has(x.name) {
			continue
		}
		want, err := r.c.floats(x.name)
		if err != nil {
			return err
		}
		r.report.add(x.name, math.Abs(x.got-float64(want[0])), r.tol.Absolute, fmt.Sprintf("%.6f", x.got))
	}
	grads, err := readGrads(r.be, w)
	if err != nil {
		return err
	}
	return r.compareGrads(grads)
}

// compare adds the largest absolute error of an output.
func (r *runner) compare(s *step, v engine.ValueID, name string) error {
	got, err := s.floats(v)
	if err != nil {
		return err
	}
	want, err := r.c.floats(name)
	if err != nil {
		return err
	}
	r.report.add(name, maxAbs(got, want), r.tol.Absolute, "")
	return nil
}

// readGrads returns the gradient of each parameter.
func readGrads(be engine.Backend, w *model.Weights) ([][]float32, error) {
	grads := make([][]float32, len(w.Params))
	for i, p := range w.Params {
		grads[i] = make([]float32, p.Size())
		if err := be.Read(grads[i], w.Param(w.Grad, i)); err != nil {
			return nil, err
		}
	}
	return grads, nil
}

// compareGrads adds the largest relative error of each gradient, and of all.
func (r *runner) compareGrads(grads [][]float32) error {
	worst, note, count := -1.0, "", 0
	err := r.c.model.Config.ExportHub(grads, func(name string, _ []int, got []float32) error {
		want, err := r.c.floats("grad." + name)
		if err != nil {
			return err
		}
		count++
		e := relative(got, want)
		if e > worst || math.IsNaN(e) {
			worst, note = e, name
		}
		r.report.Checks = append(r.report.Checks, Check{Name: "grad." + name, Error: e, Limit: r.tol.Gradient, Detail: true})
		return nil
	})
	if err != nil {
		return err
	}
	r.report.add("gradients", worst, r.tol.Gradient, fmt.Sprintf("%d tensors, worst %s", count, note))
	return nil
}

// adamW repeats the recorded training run.
func (r *runner) adamW() error {
	batches, shape, err := r.c.ints("adamw.batches")
	if err != nil {
		return err
	}
	wantLoss, err := r.c.floats("adamw.losses")
	if err != nil {
		return err
	}
	wantNorm, err := r.c.floats("adamw.grad_norms")
	if err != nil {
		return err
	}
	w, err := r.load(true)
	if err != nil {
		return err
	}
	s, err := r.newStep(w, shape[1], shape[2], false)
	if err != nil {
		return err
	}
	defer s.plan.Close()
	update, err := model.NewUpdate(r.be, w, op.AdamWConfig{Beta1: 0.9, Beta2: 0.95, Eps: 1e-8, WeightDecay: 0.1, Clip: 1}, decayMatrices, nil)
	if err != nil {
		return err
	}
	defer update.Close()
	worstLoss, worstNorm := 0.0, 0.0
	size := shape[1] * shape[2]
	for t := range wantLoss {
		from := t % shape[0] * size
		loss, _, err := s.run(batches[from : from+size])
		if err != nil {
			return err
		}
		n := float64(t + 1)
		if err := update.Run(model.Hyper{LR: 3e-3, Bias1: 1 - math.Pow(0.9, n), Bias2: 1 - math.Pow(0.95, n)}); err != nil {
			return err
		}
		sumsq, err := update.SumSquares()
		if err != nil {
			return err
		}
		worstLoss = max(worstLoss, math.Abs(loss-float64(wantLoss[t])))
		worstNorm = max(worstNorm, math.Abs(math.Sqrt(sumsq)/float64(wantNorm[t])-1))
	}
	r.report.add("adamw losses", worstLoss, r.tol.AdamWLoss, fmt.Sprintf("%d steps", len(wantLoss)))
	r.report.add("adamw norms", worstNorm, r.tol.AdamWNorm, "relative")
	return nil
}

// decayMatrices is the grouping of the recorded runs: weight decay on every
// tensor of two or more dimensions.
func decayMatrices(p model.Param) bool { return len(p.Shape) >= 2 }

// greedy repeats the recorded continuation, token by token through the caches.
func (r *runner) greedy() error {
	if !r.c.has("generate.prompt") {
		r.report.add("greedy tokens", 0, 0, "the reference has none")
		return nil
	}
	prompt, _, err := r.c.ints("generate.prompt")
	if err != nil {
		return err
	}
	want, _, err := r.c.ints("generate.greedy")
	if err != nil {
		return err
	}
	w, err := r.load(false)
	if err != nil {
		return err
	}
	g, err := model.NewGenerator(r.be, w, len(want))
	if err != nil {
		return err
	}
	defer g.Close()
	got := append([]int32(nil), prompt...)
	sampler := model.NewSampler(model.Sampling{})
	for next := prompt; len(got) < len(want); {
		logits, err := g.Read(next)
		if err != nil {
			return err
		}
		got = append(got, int32(sampler.Next(logits, len(logits))))
		next = got[len(got)-1:]
	}
	differ := 0
	for i := range want {
		if got[i] != want[i] {
			differ++
		}
	}
	r.report.add("greedy tokens", float64(differ), 0, fmt.Sprintf("%d tokens, %d differ", len(want)-len(prompt), differ))
	return nil
}
