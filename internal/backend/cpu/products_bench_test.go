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
					reportBest(b, be, c.bind(), 2*float64(s[0])*float64(s[1])*float64(s[2]))
				})
			}
		}
	}
}

// BenchmarkGroupedMatMul has 2048 rows on 8 experts, unevenly.
func BenchmarkGroupedMatMul(b *testing.B) {
	const rows, n, k = 2048, 1024, 256
	offsets := []int32{0, 100, 500, 760, 1000, 1300, 1301, 1700, rows}
	experts := len(offsets) - 1
	for _, threads := range []int{1, 2} {
		be := New(threads)
		defer be.Close()
		for _, kernel := range []string{"grouped_matmul", "grouped_matmul_dx", "grouped_matmul_dw"} {
			b.Run(fmt.Sprintf("%d/%s", threads, kernel), func(b *testing.B) {
				c := newTestCall(b, be, kernel)
				switch kernel {
				case "grouped_matmul":
					c.in(rows, k)
					c.in(experts, n, k)
					c.out(rows, n)
				case "grouped_matmul_dx":
					c.in(rows, n)
					c.in(experts, n, k)
					c.out(rows, k)
				default:
					c.in(rows, n)
					c.in(rows, k)
					c.out(experts, n, k)
				}
				c.inInts(offsets, experts+1)
				reportBest(b, be, c.bind(), 2*rows*n*k)
			})
		}
	}
}

// reportBest runs step and reports the best call's rate and its fraction of the peak that is measured next to it:
// the mean is at the mercy of what else the machine does.
func reportBest(b *testing.B, be *Backend, step func(), flops float64) {
	best := time.Hour
	for b.Loop() {
		t0 := time.Now()
		step()
		best = min(best, time.Since(t0))
	}
	rate := flops / best.Seconds() / 1e9
	b.ReportMetric(rate, "GFLOP/s")
	b.ReportMetric(100*rate/peak(be), "%peak")
}
