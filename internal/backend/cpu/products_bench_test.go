package cpu

import (
	"fmt"
	"testing"
	"time"

	"jambalaya/internal/backend/cpu/simd"
)

// peak is what the workers reach together in a loop of multiply-adds, in GFLOP/s, best of a few.
func peak(b *Backend) float64 {
	best := 0.0
	for range 10 {
		t0, flops := time.Now(), make([]int, b.pool.Workers())
		b.pool.Run(len(flops), func(task, _ int) { flops[task] = simd.PeakFMA(100_000) })
		sum := 0
		for _, f := range flops {
			sum += f
		}
		best = max(best, float64(sum)/time.Since(t0).Seconds()/1e9)
	}
	return best
}

// BenchmarkMatMul reports the best call's fraction of the peak that was measured next to it: the mean is at the
// mercy of what else the machine does.
func BenchmarkMatMul(b *testing.B) {
	for _, threads := range []int{1, 2} {
		be := New(threads)
		defer be.Close()
		for _, s := range [][3]int{{256, 256, 256}, {512, 1024, 1024}, {1024, 1024, 4096}, {1024, 48, 512}, {1024, 1024, 256},
			{1024, 256, 512}, {1024, 512, 256}, {1024, 512, 16}, {1, 1024, 1024}} {
			for _, trans := range []string{"AB", "ABt", "AtB"} {
				b.Run(fmt.Sprintf("%d/%dx%dx%d/%s", threads, s[0], s[1], s[2], trans), func(b *testing.B) {
					ta, tb := trans == "AtB", trans == "ABt"
					c := newTestCall(b, be, "matmul", flag("ta", ta), flag("tb", tb))
					c.in(shape(s[0], s[2], ta)...)
					c.in(shape(s[2], s[1], tb)...)
					c.out(s[0], s[1])
					step := c.bind()
					best := time.Hour
					for b.Loop() {
						t0 := time.Now()
						step()
						best = min(best, time.Since(t0))
					}
					flops := 2 * float64(s[0]) * float64(s[1]) * float64(s[2]) / best.Seconds() / 1e9
					b.ReportMetric(flops, "GFLOP/s")
					b.ReportMetric(100*flops/peak(be), "%peak")
				})
			}
		}
	}
}
