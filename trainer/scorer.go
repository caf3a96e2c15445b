package trainer

import (
	"fmt"
	"math"

	"jambalaya/internal/engine"
	"jambalaya/model"
)

// Scorer reads rows of tokens with a trained model, all positions at once.
type Scorer struct {
	trained *Trained
	graph   *model.TrainingGraph
	plan    *engine.Plan
	logits  []float32
	hidden  []float32
}

// NewScorer prepares the reading of so many rows of length tokens at a time. The
// length may be beyond that of training.
func (t *Trained) NewScorer(rows, length int) (*Scorer, error) {
	g, err := model.NewTrainingGraph(t.Config.Model, rows, length, model.GraphOptions{ForwardOnly: true, Inspect: true})
	if err != nil {
		return nil, err
	}
	plan, err := engine.NewPlan(g.Program, t.device, engine.Options{Bind: t.weights.Bind(g.Params, nil, nil)})
	if err != nil {
		return nil, err
	}
	return &Scorer{trained: t, graph: g, plan: plan, logits: make([]float32, rows*length*t.Config.Model.VocabSize)}, nil
}

// Choices writes the most likely next token after each position of the inputs, which
// are [rows, length] with the document of each position in docs; where choices is
// negative, nothing is asked.
func (s *Scorer) Choices(inputs, docs, choices []int32) error {
	g, be := s.graph, s.trained.device
	if n := g.Batch * g.Length; len(inputs) != n || len(docs) != n || len(choices) != n {
		return fmt.Errorf("score %d tokens: the scorer reads %d rows of %d", len(inputs), g.Batch, g.Length)
	}
	targets := make([]int32, len(inputs)) // any: the loss is not read
	if err := writeInputs(be, s.plan, []input{{g.Tokens, inputs}, {g.Targets, targets}, {g.Docs, docs}}); err != nil {
		return err
	}
	if err := s.plan.Run(); err != nil {
		return fmt.Errorf("score: %w", err)
	}
	if err := be.Read(s.logits, s.plan.Tensor(g.Logits)); err != nil {
		return err
	}
	v := s.trained.Config.Model.VocabSize
	for i := range choices {
		if choices[i] < 0 {
			continue
		}
		choices[i] = argmax(s.logits[i*v : (i+1)*v])
	}
	return nil
}

func argmax(x []float32) int32 {
	best := 0
	for i := range x {
		if x[i] > x[best] {
			best = i
		}
	}
	return int32(best)
}

// Activations are sizes of the residual stream after the layers.
type Activations struct {
	RMS float64 // of the layer where it is largest
	Max float64 // the largest absolute value anywhere
}

// Activations measures what the last Choices computed.
func (s *Scorer) Activations() (Activations, error) {
	var a Activations
	last := len(s.graph.Hidden) - 1 // the normed one, which is not the stream
	for _, id := range s.graph.Hidden[:last] {
		t := s.plan.Tensor(id)
		if len(s.hidden) != t.Size() {
			s.hidden = make([]float32, t.Size())
		}
		if err := s.trained.device.Read(s.hidden, t); err != nil {
			return a, err
		}
		sum := 0.0
		for _, x := range s.hidden {
			sum += float64(x) * float64(x)
			a.Max = max(a.Max, math.Abs(float64(x)))
		}
		a.RMS = max(a.RMS, math.Sqrt(sum/float64(len(s.hidden))))
	}
	return a, nil
}

// Close frees the plan.
func (s *Scorer) Close() { s.plan.Close() }

// NewGenerator prepares generation of up to capacity tokens, prompt included.
func (t *Trained) NewGenerator(capacity int) (*model.Generator, error) {
	return model.NewGenerator(t.device, t.weights, capacity)
}
