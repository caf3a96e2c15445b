package parallel

import (
	"context"
	"slices"
)

// The ring: rank r receives from r-1 and sends to r+1. Part p of the data starts at
// rank p+1 and goes once round, each rank adding its own, to rank p, which then has
// the sum: the reduce-scatter, Size-1 steps. Going round once more it is copied: the
// all-gather. Step t thus sends part r-1-t and receives part r-2-t.
//
// Parts are cut into chunks. Up to depth chunks of a part make a window that goes
// round before the next window starts, so that little memory is under way; sends
// run ahead of receives by up to depth chunks, across windows. All ranks run the
// same rounds: a part with fewer chunks than the largest has empty ones.

// ring is one pass of the data through the ring.
type ring struct {
	*operation
	data   []byte
	starts []int // of the parts in data, in bytes
	reduce int   // steps below it add, the others copy
	first  int   // step
	last   int   // step + 1

	rounds  []round
	waiting []*Buffer // by chunk of the window: received, to be sent on
}

// round sends one chunk and receives one.
type round struct {
	step  int
	chunk int // of the part
	slot  int // chunk of the window
	needs int // rounds that must have been received before this one is sent
}

func (g *communicator) AllReduce(ctx context.Context, op Op, x []float32) error {
	return g.run(ctx, op, KindAllReduce, func(o *operation) error {
		data, counts, first := bytesOf(x), scaled(even(len(x), o.Size()), 4), 0
		if o.options.Tree {
			if err := o.sumPairs(data, counts); err != nil {
				return err
			}
			first = o.Size() - 1
		}
		return o.ring(data, counts, first, 2*(o.Size()-1))
	})
}

func (g *communicator) ReduceScatter(ctx context.Context, op Op, x []float32, counts []int) error {
	return g.run(ctx, op, KindReduceScatter, func(o *operation) error {
		if err := o.checkCounts("elements", len(x), counts); err != nil {
			return err
		}
		if o.options.Tree {
			return o.sumPairs(bytesOf(x), scaled(counts, 4))
		}
		return o.ring(bytesOf(x), scaled(counts, 4), 0, o.Size()-1)
	})
}

func (g *communicator) AllGather(ctx context.Context, op Op, x []byte, counts []int) error {
	return g.run(ctx, op, KindAllGather, func(o *operation) error {
		if err := o.checkCounts("bytes", len(x), counts); err != nil {
			return err
		}
		return o.ring(x, counts, o.Size()-1, 2*(o.Size()-1))
	})
}

// ring runs steps [first, last) on parts of the given bytes.
func (o *operation) ring(data []byte, counts []int, first, last int) error {
	if first == last {
		return nil
	}
	r := &ring{operation: o, data: data, starts: offsets(counts), reduce: o.Size() - 1, first: first, last: last}
	r.schedule(o.chunks(slices.Max(counts)))
	r.waiting = make([]*Buffer, depth)
	defer func() {
		for _, b := range r.waiting {
			b.Free()
		}
	}()
	return r.pump()
}

// schedule lists the rounds: all steps of a window of chunks, then the next window.
func (r *ring) schedule(chunks int) {
	r.rounds = make([]round, 0, chunks*(r.last-r.first))
	for start := 0; start < chunks; start += depth {
		width := min(depth, chunks-start)
		for step := r.first; step < r.last; step++ {
			for slot := range width {
				next := round{step: step, chunk: start + slot, slot: slot}
				if step > r.first {
					next.needs = len(r.rounds) - width + 1
				}
				r.rounds = append(r.rounds, next)
			}
		}
	}
}

func (r *ring) pump() error {
	sent := 0
	for received := range r.rounds {
		for sent < len(r.rounds) && sent < received+depth && r.rounds[sent].needs <= received {
			if err := r.sendRound(sent); err != nil {
				return err
			}
			sent++
		}
		if err := r.recvRound(received); err != nil {
			return err
		}
	}
	return nil
}

func (r *ring) part(step, back int) []byte {
	p := ((r.rank-back-step)%r.Size() + r.Size()) % r.Size()
	return r.data[r.starts[p]:r.starts[p+1]]
}

func (r *ring) sendRound(i int) error {
	rd := r.rounds[i]
	part := r.part(rd.step, 1)
	payload := r.waiting[rd.slot]
	r.waiting[rd.slot] = nil
	if rd.step == r.first {
		if own := chunkOf(part, rd.chunk, r.options.ChunkBytes); len(own) > 0 {
			payload = NewBuffer(len(own))
			copy(payload.Data, own)
		}
	}
	return r.send(r.neighbour(1), uint32(i), len(part), payload)
}

func (r *ring) recvRound(i int) error {
	rd := r.rounds[i]
	part := r.part(rd.step, 2)
	own := chunkOf(part, rd.chunk, r.options.ChunkBytes)
	payload, err := r.recv(r.neighbour(-1), uint32(i), len(part), len(own))
	if err != nil {
		return err
	}
	if len(own) > 0 {
		switch {
		case rd.step < r.reduce-1:
			add(floatsOf(payload.Data), floatsOf(own))
		case rd.step == r.reduce-1:
			addBoth(floatsOf(payload.Data), floatsOf(own))
		default:
			copy(own, payload.Data)
		}
	}
	if rd.step == r.last-1 {
		payload.Free()
		return nil
	}
	r.waiting[rd.slot] = payload
	return nil
}

// add is sum += x.
func add(sum, x []float32) {
	x = x[:len(sum)]
	for len(sum) >= 8 {
		s, y := sum[:8:8], x[:8:8]
		s[0] += y[0]
		s[1] += y[1]
		s[2] += y[2]
		s[3] += y[3]
		s[4] += y[4]
		s[5] += y[5]
		s[6] += y[6]
		s[7] += y[7]
		sum, x = sum[8:], x[8:]
	}
	for i := range sum {
		sum[i] += x[i]
	}
}

// addBoth is sum += x; x = sum, in one pass over the memory.
func addBoth(sum, x []float32) {
	x = x[:len(sum)]
	for len(sum) >= 4 {
		s, y := sum[:4:4], x[:4:4]
		a, b, c, d := s[0]+y[0], s[1]+y[1], s[2]+y[2], s[3]+y[3]
		s[0], s[1], s[2], s[3] = a, b, c, d
		y[0], y[1], y[2], y[3] = a, b, c, d
		sum, x = sum[4:], x[4:]
	}
	for i := range sum {
		sum[i] += x[i]
		x[i] = sum[i]
	}
}

func scaled(counts []int, by int) []int {
	out := make([]int, len(counts))
	for i, c := range counts {
		out[i] = c * by
	}
	return out
}
