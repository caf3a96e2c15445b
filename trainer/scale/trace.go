package scale

import (
	"fmt"
	"time"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/parallel"
	"jambalaya/trainer/bench"
)

// Job is a step to predict.
type Job struct {
	Model        model.Config
	Mesh         parallel.Mesh
	Batch        int // sequences of a micro-batch of one rank
	Length       int // tokens of a sequence
	Accumulation int // micro-batches of a step
	Recompute    engine.Recompute
	Zero1        bool
	Gradient     float64 // bytes of an element; 0: bf16, or fp32 where micro-batches or ranks are summed
	Bucket       float64 // elements of gradients that are reduced together
}

// precision is bf16, with gradients that are kept in fp32 where many are summed: of
// micro-batches or ranks.
func (j Job) precision() model.Precision {
	p := model.Precision{Compute: engine.BFloat16}
	if j.Accumulation == 1 && j.Mesh.Size() == 1 {
		p.Grad = engine.BFloat16
	}
	return p
}

// gradient is the size of an element of it in bytes.
func (j Job) gradient() float64 {
	if j.Gradient != 0 {
		return j.Gradient
	}
	return float64(j.precision().Grad.Bytes())
}

// Tokens is what all ranks read in a step.
func (j Job) Tokens() int { return j.Mesh.Size() * j.Accumulation * j.Batch * j.Length }

// Event is one kernel call of a micro-batch.
type Event struct {
	Kernel  string
	Seconds float64
	// Rows are bytes of rows that go to their experts or come back: the call is an
	// exchange if there are several columns.
	Rows float64
	// Dense and Expert are elements of gradients that are final after the call.
	Dense, Expert float64
}

// Trace is what a rank computes in a micro-batch, and the size of what it holds.
type Trace struct {
	Events      []Event
	Activations int64 // bytes
	Dense       int64 // parameters that all ranks hold
	Expert      int64 // parameters of all experts
	Update      float64
}

// Plan lays out a micro-batch of a job as the CUDA backend would, and estimates the
// calls by the machine's rates.
func Plan(j Job, m Machine) (Trace, error) {
	be := cuda.NewDry()
	w, err := model.NewMixedWeights(be, j.Model, true, j.precision())
	if err != nil {
		return Trace{}, err
	}
	g, err := model.NewTrainingGraph(j.Model, j.Batch, j.Length, model.GraphOptions{Accumulate: j.Accumulation > 1})
	if err != nil {
		return Trace{}, err
	}
	p, err := engine.NewPlan(g.Program, be, engine.Options{Compute: engine.BFloat16, Recompute: j.Recompute, Bind: w.BindCompute(g.Params, g.Grads, g.Sums)})
	if err != nil {
		return Trace{}, err
	}
	defer p.Close()
	columns := float64(j.Mesh.Expert)
	return newTrace(w, p, func(i int, c *engine.Call) float64 {
		flops, bytes := bench.WorkOf(c)
		if weights := expertWeights(c); weights != nil {
			bytes -= float64(weights.Bytes()) * (1 - 1/columns)
		}
		return m.seconds(c.Kernel, flops, bytes)
	})
}

// Measured makes a trace of the times that a profile has found for the calls of a
// plan in one run. update is the time of the optimiser.
func Measured(w *model.Weights, p *engine.Plan, spent []time.Duration, update time.Duration) (Trace, error) {
	t, err := newTrace(w, p, func(i int, _ *engine.Call) float64 { return spent[i].Seconds() })
	t.Update = update.Seconds()
	return t, err
}

func newTrace(w *model.Weights, p *engine.Plan, seconds func(int, *engine.Call) float64) (Trace, error) {
	t := Trace{Activations: p.Usage().Arena}
	at := map[int64]int{} // parameter by the offset of its gradient
	for i, param := range w.Params {
		at[w.Param(w.Grad, i).Off] = i
		if n := int64(param.Size()); param.Expert {
			t.Expert += n
		} else {
			t.Dense += n
		}
	}
	last := map[int]int{} // call that completes a parameter's gradient
	for i, c := range p.Calls() {
		for _, out := range c.Out {
			if out != nil && out.Mem == w.Grad.Mem {
				if param, ok := at[out.Off]; ok {
					last[param] = i
				}
			}
		}
		t.Events = append(t.Events, Event{Kernel: c.Kernel, Seconds: seconds(i, c), Rows: rows(c)})
	}
	if len(last) != len(w.Params) {
		return t, fmt.Errorf("scale: the plan completes the gradients of %d parameters, the model has %d", len(last), len(w.Params))
	}
	for param, i := range last {
		if n := float64(w.Params[param].Size()); w.Params[param].Expert {
			t.Events[i].Expert += n
		} else {
			t.Events[i].Dense += n
		}
	}
	return t, nil
}

// rows is how many bytes of tokens a call moves between the order of tokens and
// that of experts.
func rows(c *engine.Call) float64 {
	switch c.Kernel {
	case "dispatch", "combine_grad":
		return float64(c.Out[0].Bytes())
	case "combine", "dispatch_grad":
		return float64(c.In[0].Bytes())
	}
	return 0
}

// expertWeights is the operand, or the result, that holds the weights of all experts.
func expertWeights(c *engine.Call) *engine.Tensor {
	switch c.Kernel {
	case "grouped_matmul", "grouped_matmul_dx":
		return c.In[1]
	case "grouped_matmul_dw":
		return c.Out[0]
	}
	return nil
}
