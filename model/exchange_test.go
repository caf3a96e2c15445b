package model

import (
	"fmt"
	"sync"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/engine"
)

// meeting is where the ranks of a test exchange rows.
type meeting struct {
	mu    sync.Mutex
	size  int
	came  int
	parts [][]any
	next  chan struct{} // closed when all have come
}

func newMeeting(size int) *meeting {
	return &meeting{size: size, parts: make([][]any, size), next: make(chan struct{})}
}

// swap gives rank i part i of what every rank brings, by rank.
func (m *meeting) swap(rank int, parts []any) []any {
	m.mu.Lock()
	all, next := m.parts, m.next
	all[rank] = parts
	if m.came++; m.came == m.size {
		m.came, m.parts, m.next = 0, make([][]any, m.size), make(chan struct{})
		close(next)
	}
	m.mu.Unlock()
	<-next
	mine := make([]any, m.size)
	for from := range mine {
		mine[from] = all[from][rank]
	}
	return mine
}

// visitor implements Exchanger.
type visitor struct {
	*meeting
	rank int
}

func (v visitor) Rank() int { return v.rank }
func (v visitor) Size() int { return v.size }

func (v visitor) Counts(mine, all []int32) error {
	parts := make([]any, v.size)
	for i := range parts {
		parts[i] = append([]int32(nil), mine...)
	}
	for from, p := range v.swap(v.rank, parts) {
		copy(all[from*len(mine):], p.([]int32))
	}
	return nil
}

func (v visitor) AllToAll(send []byte, sendCounts []int, recv []byte, recvCounts []int) error {
	parts := make([]any, v.size)
	for to, n := range sendCounts {
		parts[to] = append([]byte(nil), send[:n]...)
		send = send[n:]
	}
	for from, p := range v.swap(v.rank, parts) {
		if len(p.([]byte)) != recvCounts[from] {
			return fmt.Errorf("rank %d sends %d bytes, not %d", from, len(p.([]byte)), recvCounts[from])
		}
		recv = recv[copy(recv, p.([]byte)):]
	}
	return nil
}

// shared is what ranks that share the experts out make of a batch.
type shared struct {
	loss     float64
	grads    map[string][]float32 // of whole parameters
	bytes    int64
	received int // most rows of a rank
	rounds   int
}

// runShared computes a batch on ranks that have a part of the sequences and of the
// experts each. change may set weights.
func runShared(t *testing.T, cfg Config, ranks, batch, length int, chunk float64, opt engine.Options, change func(*Weights)) shared {
	t.Helper()
	tokens, targets, docs := sample(5, cfg.VocabSize, batch, length)
	meeting := newMeeting(ranks)
	runs, exchanges := make([]*run, ranks), make([]*Exchange, ranks)
	for rank := range runs {
		be := cpu.New(1)
		t.Cleanup(be.Close)
		n := cfg.NumExperts / ranks
		held := ExpertRange{rank * n, (rank + 1) * n}
		g, err := NewTrainingGraph(cfg, batch/ranks, length, GraphOptions{Experts: held})
		if err != nil {
			t.Fatal(err)
		}
		layout := NewLayout(cfg, held)
		w, err := NewShardedWeights(be, layout, []Span{layout.All()}, Precision{})
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Init(7); err != nil {
			t.Fatal(err)
		}
		if change != nil {
			change(w)
		}
		exchanges[rank] = NewExchange(be, visitor{meeting, rank}, chunk)
		opt := opt
		opt.Bind, opt.Exchange = w.Bind(g.Params, g.Grads, g.Sums), exchanges[rank].Kernels()
		plan, err := engine.NewPlan(g.Program, be, opt)
		if err != nil {
			t.Fatal(err)
		}
		runs[rank] = &run{t: t, be: be, graph: g, weights: w, plan: plan}
	}
	var wg sync.WaitGroup
	for rank, r := range runs {
		from, to := rank*batch/ranks*length, (rank+1)*batch/ranks*length
		wg.Go(func() { r.step(tokens[from:to], targets[from:to], docs[from:to]) })
	}
	wg.Wait()
	return collect(runs, exchanges)
}

func collect(runs []*run, exchanges []*Exchange) shared {
	s := shared{grads: map[string][]float32{}}
	for rank, r := range runs {
		s.loss += float64(r.read(r.plan.Tensor(r.graph.Loss))[0])
		for i, p := range r.weights.Params {
			g := r.read(r.weights.Param(r.weights.Grad, i))
			switch sum := s.grads[p.Name]; {
			case p.Expert:
				s.grads[p.Name] = append(sum, g...)
			case rank == 0:
				s.grads[p.Name] = g
			default:
				for j := range sum {
					sum[j] += g[j]
				}
			}
		}
		stats := exchanges[rank].Stats()
		s.bytes = max(s.bytes, exchanges[rank].Bytes())
		s.received, s.rounds = max(s.received, stats.Received), max(s.rounds, stats.Rounds)
	}
	return s
}

// TestExchange: ranks that share the experts out have the gradients of one that has all
// of them, in one round or many, and with what is computed again.
func TestExchange(t *testing.T) {
	t.Parallel()
	const batch, length = 4, 24
	tokens, targets, docs := sample(5, tiny().VocabSize, batch, length)
	whole := newRun(t, tiny(), batch, length, 1, GraphOptions{}, engine.Options{})
	whole.step(tokens, targets, docs)
	loss := float64(whole.read(whole.plan.Tensor(whole.graph.Loss))[0])
	for _, ranks := range []int{1, 2, 4} {
		for _, c := range []struct {
			chunk float64
			opt   engine.Options
		}{{1.25, engine.Options{}}, {0.2, engine.Options{}}, {1.25, engine.Options{Recompute: engine.RecomputeLayer}}} {
			t.Run(fmt.Sprintf("%d ranks, rounds of %g, recompute %d", ranks, c.chunk, c.opt.Recompute), func(t *testing.T) {
				got := runShared(t, tiny(), ranks, batch, length, c.chunk, c.opt, nil)
				if d := got.loss/loss - 1; d > 1e-6 || d < -1e-6 {
					t.Errorf("loss %v, want %v", got.loss, loss)
				}
				for i, p := range whole.weights.Params {
					want := whole.read(whole.weights.Param(whole.weights.Grad, i))
					if d := worst(got.grads[p.Name], want); d > 1e-4*largest(want) {
						t.Errorf("%s: differs by %g of %g", p.Name, d, largest(want))
					}
				}
			})
		}
	}
}

// TestExchangeMemoryIsBounded: a router that sends every token to the experts of one
// rank costs rounds, and no memory.
func TestExchangeMemoryIsBounded(t *testing.T) {
	t.Parallel()
	const ranks, batch, length = 4, 4, 64
	cfg := tiny()
	cfg.NumExpertsPerTok = 1
	balanced := runShared(t, cfg, ranks, batch, length, 1.25, engine.Options{}, nil)
	toOne := runShared(t, cfg, ranks, batch, length, 1.25, engine.Options{}, func(w *Weights) {
		for i, p := range w.Params { // equal probabilities go to the lower expert
			if p.Kind == Router {
				if err := w.backend.Write(w.Param(w.Value, i), make([]float32, p.Size())); err != nil {
					t.Error(err)
				}
			}
		}
	})
	// Two layers, forward and backward, in which rank 0 gets all that the ranks have.
	if want := 4 * batch * length; toOne.received != want {
		t.Errorf("rank 0 has received %d rows, want %d", toOne.received, want)
	}
	// Of those, 1.25 times what a rank sends fit into a round.
	if want := 4 * 4; toOne.rounds != want {
		t.Errorf("%d rounds, want %d", toOne.rounds, want)
	}
	if toOne.bytes != balanced.bytes {
		t.Errorf("%d bytes for one expert, %d for all", toOne.bytes, balanced.bytes)
	}
	rowBytes := int64(4 * cfg.HiddenSize * batch / ranks * length)
	t.Logf("%d bytes, %.1f times the rows that a rank sends; balanced: %d rounds, at most %d rows", toOne.bytes,
		float64(toOne.bytes)/float64(rowBytes), balanced.rounds, balanced.received)
}
