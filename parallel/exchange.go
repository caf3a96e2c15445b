package parallel

import "context"

func (g *communicator) AllToAll(ctx context.Context, op Op, send []byte, sendCounts []int, recv []byte, recvCounts []int) error {
	return g.run(ctx, op, KindAllToAll, func(o *operation) error {
		if err := o.checkCounts("bytes to send", len(send), sendCounts); err != nil {
			return err
		}
		if err := o.checkCounts("bytes to receive", len(recv), recvCounts); err != nil {
			return err
		}
		if s, r := sendCounts[o.rank], recvCounts[o.rank]; s != r {
			return argument("%d bytes to send to itself, but %d to receive", s, r)
		}
		from, to := offsets(sendCounts), offsets(recvCounts)
		copy(recv[to[o.rank]:to[o.rank+1]], send[from[o.rank]:from[o.rank+1]])
		// Each distance in turn: the ranks are busy with different peers, and those
		// that have much to send hold up only those that expect it.
		for d := 1; d < o.Size(); d++ {
			next, previous := o.neighbour(d), o.neighbour(-d)
			if err := o.exchange(next, send[from[next]:from[next+1]], previous, recv[to[previous]:to[previous+1]]); err != nil {
				return err
			}
		}
		return nil
	})
}

// exchange sends one part to a rank while it receives another from a rank.
func (o *operation) exchange(to int, send []byte, from int, recv []byte) error {
	sends, recvs := o.chunks(len(send)), o.chunks(len(recv))
	sent := 0
	for received := range recvs {
		for ; sent < min(sends, received+depth); sent++ {
			if err := o.sendChunk(to, sent, send); err != nil {
				return err
			}
		}
		if err := o.recvChunk(from, received, recv); err != nil {
			return err
		}
	}
	for ; sent < sends; sent++ {
		if err := o.sendChunk(to, sent, send); err != nil {
			return err
		}
	}
	return nil
}

func (o *operation) sendChunk(to, i int, part []byte) error {
	var payload *Buffer
	if own := chunkOf(part, i, o.options.ChunkBytes); len(own) > 0 {
		payload = NewBuffer(len(own))
		copy(payload.Data, own)
	}
	return o.send(to, uint32(i), len(part), payload)
}

func (o *operation) recvChunk(from, i int, part []byte) error {
	own := chunkOf(part, i, o.options.ChunkBytes)
	payload, err := o.recv(from, uint32(i), len(part), len(own))
	if err != nil {
		return err
	}
	if payload != nil {
		copy(own, payload.Data)
		payload.Free()
	}
	return nil
}

// Broadcast passes chunks along a chain that starts at the root.
func (g *communicator) Broadcast(ctx context.Context, op Op, root int, x []byte) error {
	return g.run(ctx, op, KindBroadcast, func(o *operation) error {
		if root < 0 || root >= o.Size() {
			return argument("root %d of %d ranks", root, o.Size())
		}
		place := o.neighbour(-root)
		for i := range o.chunks(len(x)) {
			if place > 0 {
				if err := o.recvChunk(o.neighbour(-1), i, x); err != nil {
					return err
				}
			}
			if place < o.Size()-1 {
				if err := o.sendChunk(o.neighbour(1), i, x); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// Barrier tells, in rounds of twice the distance of the one before, the ranks ahead
// that all up to here have come: after log2(Size) rounds everyone has heard of
// everyone.
func (g *communicator) Barrier(ctx context.Context, op Op) error {
	return g.run(ctx, op, KindBarrier, func(o *operation) error {
		for d := 1; d < o.Size(); d *= 2 {
			if err := o.exchange(o.neighbour(d), nil, o.neighbour(-d), nil); err != nil {
				return err
			}
		}
		return nil
	})
}

// AllGather is Group.AllGather with counts of elements.
func AllGather[T Row](ctx context.Context, g Group, op Op, x []T, counts []int) error {
	return g.AllGather(ctx, op, bytesOf(x), scaled(counts, sizeOf[T]()))
}

// AllToAll is Group.AllToAll with counts of elements.
func AllToAll[T Row](ctx context.Context, g Group, op Op, send []T, sendCounts []int, recv []T, recvCounts []int) error {
	size := sizeOf[T]()
	return g.AllToAll(ctx, op, bytesOf(send), scaled(sendCounts, size), bytesOf(recv), scaled(recvCounts, size))
}

// Broadcast is Group.Broadcast for elements.
func Broadcast[T Row](ctx context.Context, g Group, op Op, root int, x []T) error {
	return g.Broadcast(ctx, op, root, bytesOf(x))
}
