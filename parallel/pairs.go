package parallel

import "math/bits"

// The tree: neighbours add up what they have, then neighbouring pairs, then fours. So the
// sum over a power of two of ranks has the bits of the sum of its halves, each of which
// may as well have been added up, in the same way, on one rank.
//
// Each rank gets the sum of its own part, and is sent what the others have of it: as many
// bytes as go round the ring. In step d rank r exchanges with rank r xor d. So it receives
// the contributions in the order of a tree that starts at itself, which has the same pairs
// of ranks in it as the one that starts at rank 0; and a + b has the bits of b + a.
//
// Parts are cut into windows of chunks as in the ring, and sends run ahead in the same way.

// pairs is one pass in which ranks exchange contributions.
type pairs struct {
	*operation
	data   []byte
	starts []int // of the parts in data, in bytes
	steps  int   // a power of two: d is below it

	rounds []round // step is d
	sums   [][]sum // by chunk of the window and level of the tree
}

// sum is what a branch of the tree has come to: in a buffer, or in the own part of data.
type sum struct {
	floats []float32
	buffer *Buffer
}

// sumPairs leaves in each rank's part of data the sum of what all ranks have there.
func (o *operation) sumPairs(data []byte, counts []int) error {
	if o.Size() == 1 {
		return nil
	}
	levels := bits.Len(uint(o.Size() - 1))
	p := &pairs{operation: o, data: data, starts: offsets(counts), steps: 1 << levels, sums: make([][]sum, depth)}
	for slot := range p.sums {
		p.sums[slot] = make([]sum, levels+1)
	}
	defer p.free()
	longest := 0
	for _, n := range counts {
		longest = max(longest, n)
	}
	p.schedule(o.chunks(longest))
	return p.pump()
}

// schedule lists the rounds: all steps of a window of chunks, then the next window.
func (p *pairs) schedule(chunks int) {
	for start := 0; start < chunks; start += depth {
		for d := range p.steps {
			for slot := range min(depth, chunks-start) {
				p.rounds = append(p.rounds, round{step: d, chunk: start + slot, slot: slot})
			}
		}
	}
}

func (p *pairs) pump() error {
	sent := 0
	for received := range p.rounds {
		for ; sent < min(len(p.rounds), received+depth); sent++ {
			if err := p.sendRound(sent); err != nil {
				return err
			}
		}
		if err := p.recvRound(received); err != nil {
			return err
		}
	}
	return nil
}

// partner is the rank to exchange with in a step; there is none in step 0, nor where the
// ranks are no power of two.
func (p *pairs) partner(d int) (rank int, ok bool) {
	rank = p.rank ^ d
	return rank, d > 0 && rank < p.Size()
}

func (p *pairs) chunk(rank int, rd round) []byte {
	return chunkOf(p.data[p.starts[rank]:p.starts[rank+1]], rd.chunk, p.options.ChunkBytes)
}

func (p *pairs) sendRound(i int) error {
	to, ok := p.partner(p.rounds[i].step)
	if !ok {
		return nil
	}
	var payload *Buffer
	if theirs := p.chunk(to, p.rounds[i]); len(theirs) > 0 {
		payload = NewBuffer(len(theirs))
		copy(payload.Data, theirs)
	}
	return p.send(to, uint32(i), p.starts[to+1]-p.starts[to], payload)
}

func (p *pairs) recvRound(i int) error {
	rd := p.rounds[i]
	own := p.chunk(p.rank, rd)
	var next sum
	if from, ok := p.partner(rd.step); ok {
		payload, err := p.recv(from, uint32(i), p.starts[p.rank+1]-p.starts[p.rank], len(own))
		if err != nil {
			return err
		}
		if payload != nil {
			next = sum{floatsOf(payload.Data), payload}
		}
	} else if rd.step == 0 {
		next.floats = floatsOf(own)
	}
	p.carry(p.sums[rd.slot], rd.step, next)
	return nil
}

// carry adds contribution d to the branches of a chunk, as one adds 1 to a binary number.
func (p *pairs) carry(levels []sum, d int, next sum) {
	level := 0
	for ; d>>level&1 == 1; level++ {
		switch before := levels[level]; {
		case before.floats == nil:
		case next.floats == nil:
			next = before
		default:
			add(before.floats, next.floats)
			next.buffer.Free()
			next = before
		}
		levels[level] = sum{}
	}
	levels[level] = next // the last one is that of the whole, in the own part
}

func (p *pairs) free() {
	for _, levels := range p.sums {
		for _, s := range levels {
			s.buffer.Free()
		}
	}
}
