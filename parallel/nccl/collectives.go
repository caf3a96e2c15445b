package nccl

import (
	"context"
	"fmt"
	"time"
	"unsafe"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/engine"
	"jambalaya/parallel"
)

// Mark implements parallel.TensorGroup.
func (g *Group) Mark() (parallel.Mark, error) { return g.events.mark() }

// Lead implements parallel.TensorGroup.
func (g *Group) Lead() error { return g.events.lead() }

// Finish implements parallel.TensorGroup.
func (g *Group) Finish(ctx context.Context, op parallel.Op) (time.Duration, error) {
	if err := g.finish(ctx, op, parallel.KindBarrier); err != nil {
		return 0, err
	}
	took := g.events.took
	g.events.took = 0
	return took, nil
}

// AllReduceTensor implements parallel.TensorGroup.
func (g *Group) AllReduceTensor(ctx context.Context, op parallel.Op, after parallel.Mark, t *engine.Tensor) error {
	return g.onTensor(ctx, op, parallel.KindAllReduce, after, t, func(comm, stream, at, kind uintptr) error {
		return g.lib.check("all-reduce", cuda.Call(g.lib.allReduce, at, at, uintptr(t.Size()), kind, sum, comm, stream))
	})
}

// ReduceScatterTensor implements parallel.TensorGroup.
func (g *Group) ReduceScatterTensor(ctx context.Context, op parallel.Op, after parallel.Mark, t *engine.Tensor, counts []int) error {
	if _, _, err := g.own(t.Size(), counts); err != nil {
		return g.fail(op, parallel.KindReduceScatter, err)
	}
	return g.onTensor(ctx, op, parallel.KindReduceScatter, after, t, func(comm, stream, at, kind uintptr) error {
		return parts(at, counts, int(t.DType.Bytes()), func(rank int, at uintptr, count int) error {
			return g.lib.check("reduce", cuda.Call(g.lib.reduce, at, at, uintptr(count), kind, sum, uintptr(rank), comm, stream))
		})
	})
}

// AllGatherTensor implements parallel.TensorGroup.
func (g *Group) AllGatherTensor(ctx context.Context, op parallel.Op, after parallel.Mark, t *engine.Tensor, counts []int) error {
	if _, _, err := g.own(t.Size(), counts); err != nil {
		return g.fail(op, parallel.KindAllGather, err)
	}
	return g.onTensor(ctx, op, parallel.KindAllGather, after, t, func(comm, stream, at, kind uintptr) error {
		return parts(at, counts, int(t.DType.Bytes()), func(rank int, at uintptr, count int) error {
			return g.lib.check("broadcast", cuda.Call(g.lib.broadcast, at, at, uintptr(count), kind, uintptr(rank), comm, stream))
		})
	})
}

// ExchangeTensors implements parallel.TensorGroup.
func (g *Group) ExchangeTensors(ctx context.Context, op parallel.Op, after parallel.Mark, send, recv []parallel.Piece) error {
	return g.start(ctx, op, parallel.KindAllToAll, after, func(comm, stream uintptr) error {
		err := g.pieces("send", g.lib.send, send, comm, stream)
		if err == nil {
			err = g.pieces("receive", g.lib.recv, recv, comm, stream)
		}
		return err
	})
}

// pieces sends or receives.
func (g *Group) pieces(what string, fn uintptr, all []parallel.Piece, comm, stream uintptr) error {
	for _, p := range all {
		if p.Rank < 0 || p.Rank >= g.Size() {
			return fmt.Errorf("%w: rank %d of %d", parallel.ErrArgument, p.Rank, g.Size())
		}
		at, err := g.backend.Address(p.Tensor)
		if err == nil {
			err = g.lib.check(what, cuda.Call(fn, at, uintptr(p.Tensor.Bytes()), typeUint8, uintptr(p.Rank), comm, stream))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// onTensor starts an operation on a tensor of the group's backend, where it lies.
func (g *Group) onTensor(ctx context.Context, op parallel.Op, kind parallel.Kind, after parallel.Mark, t *engine.Tensor, body func(comm, stream, at, kind uintptr) error) error {
	return g.start(ctx, op, kind, after, func(comm, stream uintptr) error {
		of, err := dataType(t.DType)
		if err != nil {
			return err
		}
		at, err := g.backend.Address(t)
		if err != nil {
			return err
		}
		return body(comm, stream, at, of)
	})
}

// parts makes a call for each rank's part of data at an address.
func parts(at uintptr, counts []int, size int, call func(rank int, at uintptr, count int) error) error {
	for rank, count := range counts {
		if err := call(rank, at, count); err != nil {
			return err
		}
		at += uintptr(size * count)
	}
	return nil
}

func dataType(t engine.DType) (uintptr, error) {
	switch t {
	case engine.Float32:
		return typeFloat32, nil
	case engine.BFloat16:
		return typeBFloat16, nil
	}
	return 0, fmt.Errorf("%w: sum of %v", parallel.ErrArgument, t)
}

// AllReduce implements parallel.Group.
func (g *Group) AllReduce(ctx context.Context, op parallel.Op, x []float32) error {
	return g.onDevice(ctx, op, parallel.KindAllReduce, bytesOf(x), bytesOf(x), func(comm, stream, at, _ uintptr) error {
		return g.lib.check("all-reduce", cuda.Call(g.lib.allReduce, at, at, uintptr(len(x)), typeFloat32, sum, comm, stream))
	})
}

// ReduceScatter implements parallel.Group: each part is summed at its owner.
func (g *Group) ReduceScatter(ctx context.Context, op parallel.Op, x []float32, counts []int) error {
	lo, hi, err := g.own(len(x), counts)
	if err != nil {
		return g.fail(op, parallel.KindReduceScatter, err)
	}
	return g.onDevice(ctx, op, parallel.KindReduceScatter, bytesOf(x), bytesOf(x[lo:hi]), func(comm, stream, from, to uintptr) error {
		return parts(from, counts, 4, func(rank int, from uintptr, count int) error {
			return g.lib.check("reduce", cuda.Call(g.lib.reduce, from, to, uintptr(count), typeFloat32, sum, uintptr(rank), comm, stream))
		})
	})
}

// AllGather implements parallel.Group: each part is broadcast by its owner.
func (g *Group) AllGather(ctx context.Context, op parallel.Op, x []byte, counts []int) error {
	if _, _, err := g.own(len(x), counts); err != nil {
		return g.fail(op, parallel.KindAllGather, err)
	}
	return g.onDevice(ctx, op, parallel.KindAllGather, x, x, func(comm, stream, at, _ uintptr) error {
		return parts(at, counts, 1, func(rank int, at uintptr, count int) error {
			return g.lib.check("broadcast", cuda.Call(g.lib.broadcast, at, at, uintptr(count), typeUint8, uintptr(rank), comm, stream))
		})
	})
}

// AllToAll implements parallel.Group.
func (g *Group) AllToAll(ctx context.Context, op parallel.Op, send []byte, sendCounts []int, recv []byte, recvCounts []int) error {
	_, _, err := g.own(len(send), sendCounts)
	if err == nil {
		_, _, err = g.own(len(recv), recvCounts)
	}
	if err != nil {
		return g.fail(op, parallel.KindAllToAll, err)
	}
	return g.onDevice(ctx, op, parallel.KindAllToAll, send, recv, func(comm, stream, from, to uintptr) error {
		for rank := range g.ranks {
			out, in := sendCounts[rank], recvCounts[rank]
			err := g.lib.check("send", cuda.Call(g.lib.send, from, uintptr(out), typeUint8, uintptr(rank), comm, stream))
			if err == nil {
				err = g.lib.check("receive", cuda.Call(g.lib.recv, to, uintptr(in), typeUint8, uintptr(rank), comm, stream))
			}
			if err != nil {
				return err
			}
			from, to = from+uintptr(out), to+uintptr(in)
		}
		return nil
	})
}

// Broadcast implements parallel.Group.
func (g *Group) Broadcast(ctx context.Context, op parallel.Op, root int, x []byte) error {
	if root < 0 || root >= g.Size() {
		return g.fail(op, parallel.KindBroadcast, fmt.Errorf("%w: root %d of %d ranks", parallel.ErrArgument, root, g.Size()))
	}
	return g.onDevice(ctx, op, parallel.KindBroadcast, x, x, func(comm, stream, at, _ uintptr) error {
		return g.lib.check("broadcast", cuda.Call(g.lib.broadcast, at, at, uintptr(len(x)), typeUint8, uintptr(root), comm, stream))
	})
}

// Barrier implements parallel.Group: no sum is complete before all ranks have come.
func (g *Group) Barrier(ctx context.Context, op parallel.Op) error {
	x := []float32{0}
	return g.onDevice(ctx, op, parallel.KindBarrier, bytesOf(x), bytesOf(x), func(comm, stream, at, _ uintptr) error {
		return g.lib.check("all-reduce", cuda.Call(g.lib.allReduce, at, at, 1, typeFloat32, sum, comm, stream))
	})
}

// own checks counts against the n elements that they cut, and returns the range of
// the rank's own part.
func (g *Group) own(n int, counts []int) (lo, hi int, err error) {
	if len(counts) != g.Size() {
		return 0, 0, fmt.Errorf("%w: %d counts for %d ranks", parallel.ErrArgument, len(counts), g.Size())
	}
	total := 0
	for rank, c := range counts {
		if c < 0 {
			return 0, 0, fmt.Errorf("%w: count %d of rank %d", parallel.ErrArgument, c, rank)
		}
		if rank == g.rank {
			lo, hi = total, total+c
		}
		total += c
	}
	if total != n {
		return 0, 0, fmt.Errorf("%w: counts add up to %d, but there are %d", parallel.ErrArgument, total, n)
	}
	return lo, hi, nil
}

// onDevice runs an operation on host data: they are copied to the device, and what
// the operation leaves at `to` is copied back. Where in and out are the same, so are
// the addresses.
func (g *Group) onDevice(ctx context.Context, op parallel.Op, kind parallel.Kind, in, out []byte, body func(comm, stream, from, to uintptr) error) error {
	same := unsafe.SliceData(in) == unsafe.SliceData(out) && len(in) == len(out)
	from, to, err := g.room.place(len(in), len(out), same)
	if err == nil {
		err = g.room.write(from, in)
	}
	if err != nil {
		return g.fail(op, kind, err)
	}
	err = g.start(ctx, op, kind, 0, func(comm, stream uintptr) error {
		source, err := g.backend.Address(from)
		if err != nil {
			return err
		}
		target, err := g.backend.Address(to)
		if err != nil {
			return err
		}
		return body(comm, stream, source, target)
	})
	if err == nil {
		err = g.finish(ctx, op, kind)
	}
	if err != nil {
		return err
	}
	if err := g.room.read(out, to); err != nil {
		return g.fail(op, kind, err)
	}
	return nil
}

// bytesOf views numbers as the bytes they are.
func bytesOf(x []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(x))), 4*len(x))
}
