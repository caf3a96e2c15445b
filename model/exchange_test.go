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

// visitor implements Exchanger, and counts.
type visitor struct {
	*meeting
	rank      int
	exchanges int // of rows
	received  int // bytes of rows, those of its own included
}

func (v *visitor) Rank() int { return v.rank }
func (v *visitor) Size() int { return v.size }

func (v *visitor) Counts(mine, all []int32) error {
	parts := make([]any, v.size)
	for i := range parts {
		parts[i] = append([]int32(nil), mine...)
	}
	for from, p := range v.swap(v.rank, parts) {
		copy(all[from*len(mine):], p.([]int32))
	}
	return nil
}

func (v *visitor) AllToAll(send []byte, sendCounts []int, recv []byte, recvCounts []int) error {
	v.exchanges++
	v.received += len(recv)
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
	loss      float64
	grads     map[string][]float32 // of whole parameters
	bytes     int64                // of memory
	received  int                  // most bytes of a rank
	moved     int                  // bytes that all received
	exchanges int
}

// runShared computes a batch on ranks that have a part of the sequences and of the
// experts each, in rounds by sender if chunk is 0. change may set weights.
func runShared(t *testing.T, cfg Config, ranks, batch, length int, chunk float64, opt engine.Options, change func(*Weights)) shared {
	t.Helper()
	tokens, targets, docs := sample(5, cfg.VocabSize, batch, length)
	meeting := newMeeting(ranks)
	runs, exchanges, visitors := make([]*run, ranks), make([]*Exchange, ranks), make([]*visitor, ranks)
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
		visitors[rank] = &visitor{meeting: meeting, rank: rank}
		if exchanges[rank] = NewExchange(be, visitors[rank], chunk); chunk == 0 {
			exchanges[rank] = NewTreeExchange(be, visitors[rank], 1)
		}
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
	s := collect(runs)
	for rank, v := range visitors {
		s.bytes = max(s.bytes, exchanges[rank].Bytes())
		s.received, s.exchanges = max(s.received, v.received), max(s.exchanges, v.exchanges)
		s.moved += v.received
	}
	return s
}

func collect(runs []*run) shared {
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
	}
	return s
}

// TestExchange: ranks that share the experts out have the gradients of one that has all
// of them, in one round or many, and with what is computed again.
func TestExchange(t *testing.T) {
	t.Parallel()
	const batch, length = 4, 24
	limited := tiny()
	limited.ExpertCapacityFactor = 0.75
	for _, cfg := range []Config{tiny(), limited} {
		tokens, targets, docs := sample(5, cfg.VocabSize, batch, length)
		whole := newRun(t, cfg, batch, length, 1, GraphOptions{}, engine.Options{})
		whole.step(tokens, targets, docs)
		for _, ranks := range []int{1, 2, 4} {
			for _, c := range []struct {
				chunk float64
				opt   engine.Options
			}{{1.25, engine.Options{}}, {0.2, engine.Options{}}, {1.25, engine.Options{Recompute: engine.RecomputeLayer}}, {0, engine.Options{}}} {
				name := fmt.Sprintf("capacity %g, %d ranks, rounds of %g, recompute %d", cfg.ExpertCapacityFactor, ranks, c.chunk, c.opt.Recompute)
				t.Run(name, func(t *testing.T) {
					compareShared(t, whole, runShared(t, cfg, ranks, batch, length, c.chunk, c.opt, nil))
				})
			}
		}
	}
}

// compareShared holds what ranks have made of a batch to what one rank alone has.
func compareShared(t *testing.T, whole *run, got shared) {
	t.Helper()
	loss := float64(whole.read(whole.plan.Tensor(whole.graph.Loss))[0])
	if d := got.loss/loss - 1; d > 1e-6 || d < -1e-6 {
		t.Errorf("loss %v, want %v", got.loss, loss)
	}
	for i, p := range whole.weights.Params {
		want := whole.read(whole.weights.Param(whole.weights.Grad, i))
		if d := worst(got.grads[p.Name], want); d > 1e-4*largest(want) {
			t.Errorf("%s: differs by %g of %g", p.Name, d, largest(want))
		}
	}
}

// TestDroppedRowsStay: of the rows of a sequence, those beyond the capacity of an expert
// do not travel. The memory is what it was, but for the list of those that do.
func TestDroppedRowsStay(t *testing.T) {
	t.Parallel()
	const ranks, batch, length = 2, 4, 64
	all := runShared(t, tiny(), ranks, batch, length, 1.25, engine.Options{}, sameRouting(t))
	cfg := tiny()
	cfg.ExpertCapacityFactor = 0.5
	limited := runShared(t, cfg, ranks, batch, length, 1.25, engine.Options{}, sameRouting(t))
	// Every token chooses experts 0 and 1 of 4: each may have half of its share of 32 tokens
	// at balance, of a sequence of 64.
	if want := all.moved * 16 / 64; limited.moved != want {
		t.Errorf("%d bytes of rows, want %d of %d", limited.moved, want, all.moved)
	}
	rows := int64(batch / ranks * length * cfg.NumExpertsPerTok)
	if extra := limited.bytes - all.bytes; extra > 3*4*rows {
		t.Errorf("%d bytes of memory with a capacity, %d without", limited.bytes, all.bytes)
	}
}

// sameRouting makes all tokens go to the first experts: equal probabilities go to the
// lower ones.
func sameRouting(t *testing.T) func(*Weights) {
	return func(w *Weights) {
		for i, p := range w.Params {
			if p.Kind == Router {
				if err := w.backend.Write(w.Param(w.Value, i), make([]float32, p.Size())); err != nil {
					t.Error(err)
				}
			}
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
	toOne := runShared(t, cfg, ranks, batch, length, 1.25, engine.Options{}, sameRouting(t))
	// Rank 0 gets the rows of all ranks, in each of two layers once in forward and with the
	// gradients once more in backward, and what it has sent comes back from both.
	row := 4 * cfg.HiddenSize
	if want := 2 * (3*batch*length + 2*batch*length/ranks) * row; toOne.received != want {
		t.Errorf("rank 0 has received %d bytes, want %d", toOne.received, want)
	}
	// 1.25 times what a rank sends fit into a round, so there are four in each pass: of two
	// exchanges in forward, of three in backward.
	if want := 2 * 4 * (2 + 3); toOne.exchanges != want {
		t.Errorf("%d exchanges of rows, want %d", toOne.exchanges, want)
	}
	if toOne.bytes != balanced.bytes {
		t.Errorf("%d bytes for one expert, %d for all", toOne.bytes, balanced.bytes)
	}
	t.Logf("%d bytes, %.1f times the rows that a rank sends; balanced: %d exchanges, at most %d bytes received", toOne.bytes,
		float64(toOne.bytes)/float64(batch/ranks*length*row), balanced.exchanges, balanced.received)
}
