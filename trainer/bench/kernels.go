package bench

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/cli"
	"jambalaya/internal/engine"
	"jambalaya/internal/prng"
	"jambalaya/model/op/solo"
	"jambalaya/trainer"
)

// KernelOptions choose what Kernels measures.
type KernelOptions struct {
	Device  string // cpu, or cuda for the GPU
	Threads int
	Presets []string // whose matrix products are measured
}

// KernelsReport is what the kernels reach on a machine.
type KernelsReport struct {
	Host     Host
	Ceilings Ceilings
	Kernels  []KernelReport
}

// KernelReport is what one kernel reaches. Rates are those of the best run.
type KernelReport struct {
	Name     string  `json:"name"`
	MedianMS float64 `json:"ms_median"`
	BestMS   float64 `json:"ms_best"`
	Bytes    float64 `json:"bytes_per_s"`
	Flops    float64 `json:"flops"` // a second
	Fraction float64 `json:"fraction_of_ceiling"`
	Ceiling  string  `json:"ceiling"` // fma, on a GPU those of matrix products, or copy: the one that binds
}

// All kernels are measured in each of a few rounds, as a machine may be slow for
// some seconds: in a round at least leastSamples times, and for sampleTime if there
// is room for mostSamples.
const (
	rounds       = 5
	leastSamples = 2
	mostSamples  = 40
	sampleTime   = 60 * time.Millisecond
	largeProduct = 3e11 // operations of a product that takes too long to measure
)

// Kernels measures every kernel, and the ceilings over and over in between. It
// calls progress after each case.
func Kernels(ctx context.Context, opt KernelOptions, progress func(done, all int)) (KernelsReport, error) {
	switch opt.Device {
	case "", "cpu":
	case "cuda":
		d, err := trainer.OpenDevice(opt.Device, opt.Threads)
		if err != nil {
			return KernelsReport{}, err
		}
		defer d.Close()
		r := KernelsReport{Host: newHost(d.Path, opt.Threads)}
		err = gpuKernels(ctx, d, &r, progress)
		r.Host.LoadEnd = loadAverage()
		return r, err
	default:
		return KernelsReport{}, cli.Config(fmt.Errorf("device %q: want cpu or cuda", opt.Device))
	}
	if err := cpu.Usable(); err != nil {
		return KernelsReport{}, cli.Config(err)
	}
	if opt.Threads < 0 {
		return KernelsReport{}, cli.Config(errors.New("threads must be 0 (one a core) or more"))
	}
	cases, err := kernelCases(opt.Presets)
	if err != nil {
		return KernelsReport{}, err
	}
	be := cpu.New(opt.Threads)
	defer be.Close()
	r := KernelsReport{Host: newHost(be.Path(), opt.Threads)}
	m := meter{be: be, prober: newProber(be.Pool())}
	for round := range rounds {
		for i, c := range cases {
			if err := ctx.Err(); err != nil {
				return r, fmt.Errorf("bench: stopped: %w", err)
			}
			if err := m.measure(c); err != nil {
				return r, err
			}
			m.prober.probe()
			progress(round*len(cases)+i+1, rounds*len(cases))
		}
		m.add(fmt.Sprintf("softplus %d", copyFloats), work{bytes: 8 * copyFloats}, m.prober.softplus())
	}
	r.Host.LoadEnd, r.Ceilings = loadAverage(), m.prober.best
	for _, s := range m.samples {
		r.Kernels = append(r.Kernels, s.report(r.Ceilings))
	}
	return r, nil
}

// kernelCases lists all cases: standard products, those of the presets that are
// not among them, then the other operators.
func kernelCases(presets []string) ([]kernelCase, error) {
	products := standardProducts()
	for _, name := range presets {
		cfg, err := trainer.LoadPreset(name)
		if err != nil {
			return nil, cli.Config(err)
		}
		more, err := presetProducts(cfg)
		if err != nil {
			return nil, err
		}
		for _, p := range more {
			if !slices.Contains(products, p) && p.flops() < largeProduct {
				products = append(products, p)
			}
		}
	}
	var all []kernelCase
	for _, p := range products {
		all = append(all, p.kernelCase())
	}
	return append(append(all, mixers()...), passes()...), nil
}

// meter collects samples.
type meter struct {
	be      *cpu.Backend
	prober  *prober
	samples []*samples // by name, in the order of their first
}

// samples are the times that one kernel took.
type samples struct {
	name  string
	work  work
	times []time.Duration
}

// add adds samples of a kernel to those it has.
func (m *meter) add(name string, w work, times []time.Duration) {
	i := slices.IndexFunc(m.samples, func(s *samples) bool { return s.name == name && s.work == w })
	if i < 0 {
		m.samples = append(m.samples, &samples{name, w, times})
		return
	}
	m.samples[i].times = append(m.samples[i].times, times...)
}

// report is what the samples say.
func (s *samples) report(c Ceilings) KernelReport {
	slices.Sort(s.times)
	best, median := s.times[0].Seconds(), s.times[len(s.times)/2].Seconds()
	floor, ceiling := c.floor(s.work)
	return KernelReport{Name: s.name, MedianMS: median * 1e3, BestMS: best * 1e3, Bytes: s.work.bytes / best,
		Flops: s.work.flops / best, Fraction: floor / best, Ceiling: ceiling}
}

// measure runs a case's plan until there are enough samples of each of its calls.
func (m *meter) measure(k kernelCase) error {
	prog, err := k.build()
	if err != nil {
		return err
	}
	plan, err := engine.NewPlan(prog.Program, m.be, engine.Options{})
	if err != nil {
		return err
	}
	defer plan.Close()
	if err := fill(m.be, plan, prog); err != nil {
		return err
	}
	if err := plan.Run(); err != nil { // touches the memory for the first time
		return err
	}
	spent := plan.Profile()
	times := make([][]time.Duration, len(spent))
	start := time.Now()
	for i := 0; i < leastSamples || i < mostSamples && time.Since(start) < sampleTime; i++ {
		clear(spent)
		if err := plan.Run(); err != nil {
			return err
		}
		for j, t := range spent {
			times[j] = append(times[j], t)
		}
	}
	for j, c := range plan.Calls() {
		m.add(k.name(c), workOf(c), times[j])
	}
	return nil
}

// fill gives every input random values: floats in [0,1), integers below their bound.
func fill(be engine.Backend, plan *engine.Plan, p solo.Program) error {
	random := prng.New(1, "bench")
	for _, v := range p.Inputs {
		t := plan.Tensor(v)
		var host any
		if below := p.Below[v]; below > 0 {
			x := make([]int32, t.Size())
			for i := range x {
				x[i] = int32(random.IntN(below))
			}
			host = x
		} else {
			x := make([]float32, t.Size())
			pattern := make([]float32, min(len(x), 1<<16)) // drawing all would take longer than measuring
			for i := range pattern {
				pattern[i] = float32(random.Float64())
			}
			for at := 0; at < len(x); {
				at += copy(x[at:], pattern)
			}
			host = x
			if t.DType == engine.BFloat16 {
				host = toBF16(x)
			}
		}
		if err := be.Write(t, host); err != nil {
			return err
		}
	}
	return nil
}
