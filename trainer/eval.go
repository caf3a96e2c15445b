package trainer

import (
	"context"
	"fmt"
	"math"

	"jambalaya/data"
	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/trainer/report"
)

// evaluator measures the loss on the held-out text, on the weights as they are.
type evaluator struct {
	backend engine.Backend
	graph   *model.TrainingGraph
	plan    *engine.Plan
	set     *data.Evaluation
	one     []float32
}

func newEvaluator(be engine.Backend, w *model.Weights, cfg Config, corpus *data.Corpus) (*evaluator, error) {
	set, err := corpus.Evaluation(int64(cfg.Trainer.EvalTokens))
	if err != nil {
		return nil, ofData(err)
	}
	g, err := model.NewTrainingGraph(cfg.Model, cfg.Trainer.BatchSize, cfg.Data.SequenceLength, model.GraphOptions{ForwardOnly: true})
	if err != nil {
		return nil, err
	}
	plan, err := engine.NewPlan(g.Program, be, engine.Options{Bind: w.Bind(g.Params, nil, nil)})
	if err != nil {
		return nil, err
	}
	return &evaluator{backend: be, graph: g, plan: plan, set: set, one: make([]float32, 1)}, nil
}

// validation is a measurement of the held-out text.
type validation struct {
	nats    float64 // of all targets together
	targets int64
	bytes   int64 // that the targets stand for
}

func (v validation) perToken() float64 { return v.nats / float64(v.targets) }

func (v validation) bitsPerByte() float64 { return v.nats / math.Ln2 / float64(v.bytes) }

func (v validation) line() *report.Validation {
	return &report.Validation{ValLoss: report.Number(v.perToken()), BitsPerByte: report.Number(v.bitsPerByte())}
}

func (v validation) String() string {
	return fmt.Sprintf("validation %.4f nats a token, %.4f bits a byte", v.perToken(), v.bitsPerByte())
}

// run goes over the held-out text once.
func (e *evaluator) run(ctx context.Context) (validation, error) {
	v := validation{targets: e.set.Targets(), bytes: e.set.Bytes()}
	for b := range e.set.Batches(e.graph.Batch) {
		if err := ctx.Err(); err != nil {
			return v, err
		}
		g := e.graph
		err := writeInputs(e.backend, e.plan, []input{{g.Tokens, b.Inputs}, {g.Targets, b.Targets}, {g.Docs, b.Docs}})
		if err == nil {
			err = e.plan.Run()
		}
		if err == nil {
			err = e.backend.Read(e.one, e.plan.Tensor(g.Loss))
		}
		if err != nil {
			return v, fmt.Errorf("validation: %w", err)
		}
		v.nats += float64(e.one[0])
	}
	return v, nil
}

// text is the text that the targets stand for, for compressors to try.
func (e *evaluator) text() []byte { return e.set.Text() }

func (e *evaluator) close() { e.plan.Close() }
