package nccl_test

import (
	"fmt"
	"testing"
	"time"

	"jambalaya/internal/engine"
	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
	"jambalaya/parallel/nccl"
)

// BenchmarkTensors reports what moves between all GPUs: for an all-reduce the bandwidth of
// the bus, as nccl-tests count it, for an exchange what a rank sends to others.
func BenchmarkTensors(b *testing.B) {
	gpus := devices(b, 2)
	n := len(gpus)
	for _, mib := range []int{1, 4, 32, 256, 1024} {
		for name, start := range map[string]func(g *nccl.Group, op parallel.Op, t *engine.Tensor) error{
			"all-reduce": func(g *nccl.Group, op parallel.Op, t *engine.Tensor) error {
				return g.AllReduceTensor(b.Context(), op, 0, t)
			},
			"exchange": func(g *nccl.Group, op parallel.Op, t *engine.Tensor) error {
				var send, recv []parallel.Piece
				for peer := range n { // half of the tensor to all, in pieces of a sixteenth
					const pieces = 8
					size := t.Size() / 2 / n / pieces
					for k := range pieces {
						send = append(send, parallel.Piece{Rank: peer, Tensor: part(t, (peer*pieces+k)*size, size)})
						recv = append(recv, parallel.Piece{Rank: peer, Tensor: part(t, t.Size()/2+(peer*pieces+k)*size, size)})
					}
				}
				return g.ExchangeTensors(b.Context(), op, 0, send, recv)
			},
		} {
			b.Run(fmt.Sprintf("%s/%dMiB", name, mib), func(b *testing.B) {
				var device, wall time.Duration
				together(b, inproc.New(n, nil), 1, gpus, func(r rank) error {
					mem, err := r.Alloc(int64(mib) << 20)
					if err != nil {
						return err
					}
					defer r.Free(mem)
					t, op := &engine.Tensor{Shape: []int{mib << 18}, DType: engine.Float32, Mem: mem}, parallel.Op{Name: "benchmark"}
					var began time.Time
					for i := range b.N + 1 { // the first one sets connections up
						if err := start(r.group, op, t); err != nil {
							return err
						}
						if i == 0 {
							if _, err := r.group.Finish(b.Context(), op); err != nil {
								return err
							}
							began = time.Now()
						}
					}
					took, err := r.group.Finish(b.Context(), op)
					if r.Rank() == 0 {
						device, wall = took, time.Since(began)
					}
					return err
				})
				bytes := float64(b.N) * float64(mib<<20) * 2 * float64(n-1) / float64(n)
				if name == "exchange" {
					bytes /= 4
				}
				b.ReportMetric(bytes/device.Seconds()/1e9, "GB/s-on-device")
				b.ReportMetric(bytes/wall.Seconds()/1e9, "GB/s")
			})
		}
	}
}
