package bench

import (
	"context"
	"fmt"
	"math"
	"time"

	"jambalaya/internal/engine"
	"jambalaya/model/op"
	"jambalaya/model/op/solo"
	"jambalaya/trainer"
)

// On a GPU a kernel runs gpuRepeats times in a row for each of gpuSamples, started as one
// graph, as steps are: its time alone is of the size of what it takes to start and wait.
const (
	gpuRepeats = 20
	gpuSamples = 7
	gpuProduct = 8192    // extents of the product that is the ceiling of others
	gpuCopied  = 1 << 28 // elements of the copy
	gpuBrief   = 1 << 28 // bytes below which what a kernel moves takes longer to copy a byte
)

// gpuKernels measures the kernels of a GPU in bf16, as training uses them, against a
// copy in its memory and the rate of a large matrix product.
func gpuKernels(ctx context.Context, d *trainer.Device, r *KernelsReport, progress func(done, all int)) error {
	var err error
	if r.Ceilings, err = gpuCeilings(d); err != nil {
		return err
	}
	cases := gpuCases()
	for i, c := range cases {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("bench: stopped: %w", err)
		}
		found, err := gpuMeasure(d, c)
		if err != nil {
			return err
		}
		for _, s := range found {
			c := r.Ceilings
			if s.work.bytes < gpuBrief {
				if c.Copy, err = gpuCopy(d, int(s.work.bytes/8)); err != nil {
					return err
				}
			}
			r.Kernels = append(r.Kernels, s.report(c))
		}
		progress(i+1, len(cases))
	}
	return nil
}

func gpuCeilings(d *trainer.Device) (c Ceilings, err error) {
	found, err := gpuMeasure(d, kernelCase{build: func() (solo.Program, error) { return solo.MatMul(gpuProduct, gpuProduct, gpuProduct, false, true) }})
	if err != nil {
		return c, err
	}
	c.FMA = 2 * math.Pow(gpuProduct, 3) / found[0].times[0].Seconds()
	c.Copy, err = gpuCopy(d, gpuCopied)
	return c, err
}

// gpuCopy is the bytes a second, read and written, of copying n elements: few of them
// take as long as a kernel does to start and end, and stay in the cache.
func gpuCopy(d *trainer.Device, n int) (float64, error) {
	found, err := gpuMeasure(d, kernelCase{build: func() (solo.Program, error) { return solo.Copy(n) }})
	if err != nil {
		return 0, err
	}
	return 8 * float64(n) / found[0].times[0].Seconds(), nil
}

// gpuCases are the operators at the shapes of bench-1b, and the mixers on one long
// sequence.
func gpuCases() []kernelCase {
	const tokens, hidden, inner, wide, vocab, parameters = 16384, 2048, 4096, 4096, 65536, 1 << 28
	heads := op.Heads{Heads: 16, KVHeads: 4, HeadDim: 128}
	var all []kernelCase
	for _, p := range []product{{m: tokens, n: inner, k: hidden, tb: true}, {m: tokens, n: hidden, k: inner}, {m: inner, n: hidden, k: tokens, ta: true},
		{m: tokens, n: vocab, k: hidden, tb: true}, {m: tokens, n: 160, k: inner, tb: true}, {m: tokens, n: inner, k: 128, tb: true}} {
		all = append(all, p.kernelCase())
	}
	for _, s := range [][2]int{{8, 2048}, {1, 65536}} {
		all = append(all, kernelCase{fmt.Sprintf("B%d L%d D4096 N16", s[0], s[1]),
			func() (solo.Program, error) { return solo.Scan(s[0], s[1], inner, states, scanChunk) }})
	}
	for _, s := range [][2]int{{8, 2048}, {1, 32768}} {
		all = append(all, kernelCase{fmt.Sprintf("B%d L%d, 16 heads of 128", s[0], s[1]),
			func() (solo.Program, error) { return solo.Attention(s[0], s[1], heads) }})
	}
	for _, build := range []func() (solo.Program, error){
		func() (solo.Program, error) { return solo.Experts(tokens, hidden, wide, experts, topK) },
		func() (solo.Program, error) { return solo.RMSNorm(tokens, hidden) },
		func() (solo.Program, error) { return solo.SplitNorm(tokens, 128, states) },
		func() (solo.Program, error) { return solo.Conv(8, 2048, inner, 4) },
		func() (solo.Program, error) { return solo.SwiGLU(topK*tokens, wide) },
		func() (solo.Program, error) { return solo.CrossEntropy(tokens, vocab) },
		func() (solo.Program, error) { return solo.Embedding(tokens, vocab, hidden) },
		func() (solo.Program, error) { return solo.Add(tokens, hidden) },
		func() (solo.Program, error) { return solo.Router(tokens, experts, topK) },
		func() (solo.Program, error) { return solo.AdamW(parameters, true) },
	} {
		all = append(all, kernelCase{build: build})
	}
	return all
}

// gpuMeasure times each call of a case. Every value has memory of its own: a call is
// repeated, and what it reads must stay.
func gpuMeasure(d *trainer.Device, k kernelCase) ([]*samples, error) {
	prog, err := k.build()
	if err != nil {
		return nil, err
	}
	plan, err := engine.NewPlan(prog.Program, d, engine.Options{Compute: engine.BFloat16, NoReuse: true})
	if err != nil {
		return nil, err
	}
	defer plan.Close()
	if err := fill(d, plan, prog); err != nil {
		return nil, err
	}
	if err := plan.Run(); err != nil {
		return nil, err
	}
	var all []*samples
	for i, c := range plan.Calls() {
		s := &samples{name: k.name(c), work: workOf(c)}
		if c.Kernel == "selective_scan" || c.Kernel == "selective_scan_grad" {
			s.work.flops = 0 // no matrix products: the ceiling of these says nothing of it
		}
		if s.times, err = gpuTimes(d, plan, i); err != nil {
			return nil, err
		}
		all = append(all, s)
	}
	return all, nil
}

// gpuTimes are samples of the time that call i of a plan takes.
func gpuTimes(d *trainer.Device, plan *engine.Plan, i int) ([]time.Duration, error) {
	repeats, err := plan.Repeats(i, i+1, gpuRepeats)
	if err != nil {
		return nil, err
	}
	defer repeats.Close()
	var times []time.Duration
	for range gpuSamples {
		start := time.Now()
		if err := repeats.Start(); err != nil {
			return nil, err
		}
		if err := d.Sync(); err != nil {
			return nil, err
		}
		times = append(times, time.Since(start)/gpuRepeats)
	}
	return times, nil
}

// toBF16 rounds to nearest, ties to even.
func toBF16(x []float32) []uint16 {
	y := make([]uint16, len(x))
	for i, v := range x {
		bits := math.Float32bits(v)
		y[i] = uint16((bits + 0x7fff + bits>>16&1) >> 16)
	}
	return y
}
