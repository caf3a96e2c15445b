package bench

import (
	"time"

	"jambalaya/internal/backend/cpu/pool"
	"jambalaya/internal/backend/cpu/simd"
)

// Ceilings are what the machine can do with the threads in use.
type Ceilings struct {
	FMA  float64 `json:"fma_flops"`        // operations a second, on a GPU of a large bf16 product; 0 without vector instructions
	Copy float64 `json:"copy_bytes_per_s"` // bytes read and written a second by copying in main memory
}

const (
	copyFloats = 1 << 25 // 128 MiB: more than any cache
	copyTask   = 1 << 16 // elements of a task over them
	peakLoops  = 1 << 19 // some milliseconds
)

// prober measures the ceilings.
type prober struct {
	workers    *pool.Pool
	flops      []float64 // of each worker
	src, dst   []float32
	peak, move func(task, worker int)
	best       Ceilings
}

func newProber(workers *pool.Pool) *prober {
	p := &prober{workers: workers, flops: make([]float64, workers.Workers()),
		src: make([]float32, copyFloats), dst: make([]float32, copyFloats)}
	for i := range p.src { // pages that were never written are all the same one
		p.src[i] = float32(i%64) - 32
	}
	p.peak = func(task, _ int) { p.flops[task] = float64(simd.PeakFMA(peakLoops)) }
	p.move = func(task, _ int) { copy(p.dst[task*copyTask:(task+1)*copyTask], p.src[task*copyTask:]) }
	return p
}

// probe measures once more and keeps the best, as another process may have taken
// the processor the time before.
func (p *prober) probe() {
	fma := p.timed(len(p.flops), p.peak)
	copied := p.timed(copyFloats/copyTask, p.move)
	p.best.FMA = max(p.best.FMA, p.flops[0]*float64(len(p.flops))/fma.Seconds())
	p.best.Copy = max(p.best.Copy, 8*copyFloats/copied.Seconds())
}

func (p *prober) timed(tasks int, f func(task, worker int)) time.Duration {
	start := time.Now()
	p.workers.Run(tasks, f)
	return time.Since(start)
}

// softplus times what the scan does to its steps, which is not an operator of its
// own, over main memory.
func (p *prober) softplus() []time.Duration {
	task := func(task, _ int) {
		simd.Softplus(p.dst[task*copyTask:(task+1)*copyTask], p.src[task*copyTask:(task+1)*copyTask])
	}
	var times []time.Duration
	for range leastSamples {
		times = append(times, p.timed(copyFloats/copyTask, task))
	}
	return times
}

// floor is the least time that work takes, and the ceiling that says so.
func (c Ceilings) floor(w work) (seconds float64, ceiling string) {
	seconds, ceiling = w.bytes/c.Copy, "copy"
	if c.FMA > 0 && w.flops/c.FMA > seconds {
		seconds, ceiling = w.flops/c.FMA, "fma"
	}
	return seconds, ceiling
}
