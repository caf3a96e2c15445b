package scale

import "fmt"

// Bytes of a parameter besides its gradient.
const (
	masterBytes = 4 // weight in fp32, which ZeRO-1 gathers
	copyBytes   = 2 // weight in bf16, which products read
	momentBytes = 8 // two in fp32, which ZeRO-1 shares out
)

// Memory is what a rank holds, in bytes.
type Memory struct {
	Weights, Gradients, Optimiser int64
	Activations, Exchange         int64
}

// Total is the sum.
func (m Memory) Total() int64 {
	return m.Weights + m.Gradients + m.Optimiser + m.Activations + m.Exchange
}

// Step is a prediction, in seconds.
type Step struct {
	Compute   float64 // kernels of all micro-batches
	Exchange  float64 // waiting for tokens
	Reduction float64 // of gradients, hidden or not
	Exposed   float64 // what is left of it after the backward pass
	Update    float64 // optimiser
	Gather    float64 // of weights, with ZeRO-1
	Memory    Memory
	Tokens    int
}

// Total is the time of the step.
func (s Step) Total() float64 { return s.Compute + s.Exchange + s.Exposed + s.Update + s.Gather }

// Hidden is the share of the reduction that takes no time of its own.
func (s Step) Hidden() float64 {
	if s.Reduction == 0 {
		return 1
	}
	return 1 - s.Exposed/s.Reduction
}

// Bound names what costs the most besides the computation, if it costs a tenth of it.
func (s Step) Bound() string {
	name, cost := "compute", s.Compute/10
	for _, c := range []struct {
		name string
		cost float64
	}{{"exchange", s.Exchange}, {"reduction", s.Exposed + s.Gather}, {"optimiser", s.Update}} {
		if c.cost > cost {
			name, cost = c.name, c.cost
		}
	}
	return name
}

// Simulate runs a trace on every rank of a job's mesh.
func Simulate(t Trace, j Job, m Machine) (Step, error) {
	mesh := j.Mesh
	if n := j.Model.NumExperts; n%mesh.Expert != 0 {
		return Step{}, fmt.Errorf("scale: %d columns do not divide the %d experts of a layer", mesh.Expert, n)
	}
	if j.Bucket <= 0 {
		return Step{}, fmt.Errorf("scale: buckets of %v elements", j.Bucket)
	}
	s := Step{Tokens: j.Tokens()}
	slow := m.slowdown(mesh.Size())
	r := reduction{job: j, machine: m}
	for micro := range j.Accumulation {
		for _, e := range t.Events {
			busy := e.Seconds * slow
			s.Compute += busy
			r.drain(busy)
			if e.Rows > 0 {
				s.Exchange += m.exchange(e.Rows, mesh.Expert)
			}
			if micro == j.Accumulation-1 {
				r.ready(e.Dense, e.Expert/float64(mesh.Expert))
			}
		}
	}
	r.flush()
	s.Reduction, s.Exposed = r.total, r.backlog
	dense, expert := float64(t.Dense), float64(t.Expert)/float64(mesh.Expert)
	denseShard, expertShard := dense, expert
	if j.Zero1 {
		denseShard, expertShard = dense/float64(mesh.Size()), expert/float64(mesh.Data)
		s.Gather = m.started(m.scatter(masterBytes*dense, mesh.Size())) + m.started(m.scatter(masterBytes*expert, mesh.Data))
	}
	s.Update = t.Update * slow
	if t.Update == 0 { // read the gradient, read and write the rest
		bytes := (denseShard + expertShard) * (j.gradient() + 2*masterBytes + 2*momentBytes + copyBytes)
		s.Update = bytes / (m.Copy * m.Pass)
	}
	s.Memory = Memory{Weights: int64((masterBytes + copyBytes) * (dense + expert)), Gradients: int64(j.gradient() * (dense + expert)),
		Optimiser: int64(momentBytes * (denseShard + expertShard)), Activations: t.Activations, Exchange: exchangeBytes(t, mesh.Expert)}
	return s, nil
}

// exchangeBytes is room for the rows of one exchange on their way out and in.
func exchangeBytes(t Trace, columns int) int64 {
	if columns == 1 {
		return 0
	}
	most := 0.0
	for _, e := range t.Events {
		most = max(most, e.Rows)
	}
	return int64(2 * most)
}

// reduction is the queue of buckets before the network.
type reduction struct {
	job           Job
	machine       Machine
	dense, expert float64 // elements of the bucket that fills
	backlog       float64 // seconds of transfers that have not been made
	total         float64 // seconds of all transfers
}

// ready adds final gradients, and queues buckets that are full.
func (r *reduction) ready(dense, expert float64) {
	r.dense += dense
	r.expert += expert
	for r.dense >= r.job.Bucket {
		r.queue(r.job.Bucket, r.job.Mesh.Size())
		r.dense -= r.job.Bucket
	}
	for r.expert >= r.job.Bucket {
		r.queue(r.job.Bucket, r.job.Mesh.Data)
		r.expert -= r.job.Bucket
	}
}

// flush queues what is left.
func (r *reduction) flush() {
	r.queue(r.dense, r.job.Mesh.Size())
	r.queue(r.expert, r.job.Mesh.Data)
	r.dense, r.expert = 0, 0
}

func (r *reduction) queue(elements float64, ranks int) {
	took := r.machine.scatter(r.job.gradient()*elements, ranks)
	if !r.job.Zero1 {
		took *= 2 // the sums go back to everyone
	}
	took = r.machine.started(took)
	r.backlog += took
	r.total += took
}

// drain lets the network work for a while.
func (r *reduction) drain(seconds float64) { r.backlog = max(0, r.backlog-seconds) }
