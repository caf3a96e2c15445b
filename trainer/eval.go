package trainer

import (
	"context"
	"fmt"
	"iter"
	"math"

	"jambalaya/data"
	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/parallel"
	"jambalaya/trainer/report"
)

// evaluator measures the loss on the held-out text, on the weights as they are. The
// ranks share the text out: rank r of n takes batches r, r+n, r+2n...
type evaluator struct {
	team      *team
	exchanger *exchanger // nil where this rank holds all experts
	backend   engine.Backend
	graph     *model.TrainingGraph
	plan      *engine.Plan
	set       *data.Evaluation
	one       []float32
	nats      []float64 // of each batch: added up in their order, whoever measured them
}

func newEvaluator(be engine.Backend, w *model.Weights, cfg Config, t *team, l *learner, corpus *data.Corpus) (*evaluator, error) {
	set, err := corpus.Evaluation(int64(cfg.Trainer.EvalTokens))
	if err != nil {
		return nil, ofData(err)
	}
	_, rows := cfg.Trainer.share(t.size())
	g, err := model.NewTrainingGraph(cfg.Model, rows, cfg.Data.SequenceLength, model.GraphOptions{ForwardOnly: true, Experts: l.shard.layout.Shared()})
	if err != nil {
		return nil, err
	}
	plan, err := engine.NewPlan(g.Program, be, engine.Options{Compute: w.Compute(), Exchange: kernels(l.exchange), Bind: w.BindCompute(g.Params, nil, nil)})
	if err != nil {
		return nil, err
	}
	e := &evaluator{team: t, exchanger: l.exchanger, backend: be, graph: g, plan: plan, set: set, one: make([]float32, 1)}
	for range set.Batches(rows) {
		e.nats = append(e.nats, 0)
	}
	return e, nil
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

// run goes over the held-out text once, and calls alive after each batch. All ranks
// return the same.
func (e *evaluator) run(ctx context.Context, alive func()) (validation, error) {
	v := validation{targets: e.set.Targets(), bytes: e.set.Bytes()}
	e.exchanger.at(ctx, 0)
	clear(e.nats)
	for i, b := range e.mine() {
		if err := ctx.Err(); err != nil {
			return v, err
		}
		nats, err := e.measure(b)
		if err != nil {
			return v, fmt.Errorf("validation: %w", err)
		}
		e.nats[i] += nats
		alive()
	}
	if err := e.team.sum(ctx, parallel.Op{Name: "validation"}, e.nats); err != nil {
		return v, err
	}
	for _, nats := range e.nats {
		v.nats += nats
	}
	return v, nil
}

// mine yields the batches of this rank, with their numbers. Ranks that share experts out need
// each other for every batch, so all have as many: the last may be one without targets.
func (e *evaluator) mine() iter.Seq2[int, *data.Batch] {
	return func(yield func(int, *data.Batch) bool) {
		n, size := 0, e.team.size()
		var last *data.Batch
		for b := range e.set.Batches(e.graph.Batch) {
			last = b
			if n++; (n-1)%size == e.team.rank && !yield(n-1, b) {
				return
			}
		}
		if late := n % size; late > 0 && e.team.rank >= late && e.exchanger != nil {
			for i := range last.Targets {
				last.Targets[i] = data.Ignored
			}
			yield(n-1, last)
		}
	}
}

// measure returns the loss of a batch in nats.
func (e *evaluator) measure(b *data.Batch) (float64, error) {
	g := e.graph
	if err := writeInputs(e.backend, e.plan, []input{{g.Tokens, b.Inputs}, {g.Targets, b.Targets}, {g.Docs, b.Docs}}); err != nil {
		return 0, err
	}
	if err := e.plan.Run(); err != nil {
		return 0, err
	}
	err := e.backend.Read(e.one, e.plan.Tensor(g.Loss))
	return float64(e.one[0]), err
}

// text is the text that the targets stand for, for compressors to try.
func (e *evaluator) text() []byte { return e.set.Text() }

func (e *evaluator) close() { e.plan.Close() }
