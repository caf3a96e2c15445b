package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/trainer"
	"jambalaya/trainer/optim"
)

// StepOptions choose the step to be measured.
type StepOptions struct {
	Preset  string   // name or file of a configuration
	Set     []string // assignments, as of the command line
	Steps   int      // steps to time
	Profile int      // steps to profile after those
	Shapes  bool     // products of different shapes apart in the profile
}

// StepReport is what training steps cost.
type StepReport struct {
	Name       string  `json:"name"`
	Params     int64   `json:"params"`
	Batch      int     `json:"batch"`  // sequences of a micro-batch
	Length     int     `json:"length"` // tokens of a sequence
	Steps      int     `json:"steps"`
	Best       float64 `json:"tokens_per_s_best"`
	Median     float64 `json:"tokens_per_s_median"`
	BestMS     float64 `json:"ms_best"`
	MedianMS   float64 `json:"ms_median"`
	StepGFLOP  float64 `json:"gflop"`         // of a step, as model.FLOPs counts
	TFLOPS     float64 `json:"tflops"`        // in the best step
	MFU        float64 `json:"mfu"`           // of a large product's rate on a GPU; 0 elsewhere
	Planned    int64   `json:"planned_bytes"` // device memory as laid out
	Peak       int64   `json:"peak_bytes"`    // of the process where the device is the CPU, else of the device, with the driver's own
	Host       Host    `json:"host"`
	Operators  []Usage `json:"operators"`  // of the quickest profiled step
	Between    float64 `json:"between_ms"` // of that step, outside all kernels
	ProfiledMS float64 `json:"profiled_ms"`
}

// warmUps are the steps before the first that counts: the memory is touched for
// the first time, and caches and workers are cold.
const warmUps = 2

// Step measures optimiser steps of a configuration.
func Step(ctx context.Context, opt StepOptions) (StepReport, error) {
	cfg, err := trainer.LoadPreset(opt.Preset, opt.Set...)
	if err != nil {
		return StepReport{}, cli.Config(err)
	}
	if opt.Steps < 1 || opt.Profile < 1 {
		return StepReport{}, cli.Config(fmt.Errorf("--steps %d: want 1 or more", min(opt.Steps, opt.Profile)))
	}
	device, err := trainer.OpenDevice(cfg.Trainer.Device, cfg.Trainer.Threads)
	if err != nil {
		return StepReport{}, err
	}
	defer device.Close()
	r := StepReport{Name: "step " + opt.Preset, Params: cfg.Model.Counts().Total, Batch: cfg.Trainer.BatchSize,
		Length: cfg.Data.SequenceLength, Steps: opt.Steps, Host: newHost(device.Path, cfg.Trainer.Threads)}
	var ceilings Ceilings
	if device.Name() == "cuda" {
		if ceilings, err = gpuCeilings(device); err != nil {
			return r, err
		}
	}
	rehearsal, err := trainer.NewRehearsal(device, cfg, nil)
	if err != nil {
		return r, err
	}
	defer rehearsal.Close()

	times, err := timeSteps(ctx, rehearsal, opt.Steps)
	if err != nil {
		return r, err
	}
	r.Host.LoadEnd = loadAverage()
	slices.Sort(times)
	tokens := float64(rehearsal.Tokens())
	best, median := times[0].Seconds(), times[len(times)/2].Seconds()
	r.Best, r.Median, r.BestMS, r.MedianMS = tokens/best, tokens/median, best*1e3, median*1e3
	flops := tokens * cfg.Model.FLOPs(cfg.Data.SequenceLength).Training()
	r.StepGFLOP, r.TFLOPS = flops/1e9, flops/best/1e12
	r.Planned = rehearsal.Planned()
	r.Peak = max(r.Planned, device.Peak())
	if device.Name() == "cuda" {
		r.MFU = 1e12 * r.TFLOPS / ceilings.FMA
	}
	return r, r.profile(ctx, rehearsal, opt)
}

func timeSteps(ctx context.Context, r *trainer.Rehearsal, steps int) ([]time.Duration, error) {
	times := make([]time.Duration, 0, steps)
	for i := range warmUps + steps {
		start := time.Now()
		if err := takeStep(ctx, r); err != nil {
			return nil, err
		}
		if i >= warmUps {
			times = append(times, time.Since(start))
		}
	}
	return times, nil
}

// takeStep ends with the device idle, as a step that reads its loss does. A step whose update is skipped is none to
// be timed.
func takeStep(ctx context.Context, r *trainer.Rehearsal) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("bench: stopped: %w", err)
	}
	step, err := r.Step()
	if err == nil && step.Verdict != optim.Applied {
		err = fmt.Errorf("bench: step not applied (%s): loss %v, gradient norm %v", step.Verdict, step.Loss, step.GradNorm)
	}
	return err
}

// profile fills in where the time of the quickest of a number of steps went.
func (r *StepReport) profile(ctx context.Context, rehearsal *trainer.Rehearsal, opt StepOptions) error {
	plans := rehearsal.Plans()
	spent := make([][]time.Duration, len(plans))
	for i, p := range plans {
		spent[i] = p.Profile()
	}
	for i := range opt.Profile {
		for _, s := range spent {
			clear(s)
		}
		start := time.Now()
		if err := takeStep(ctx, rehearsal); err != nil {
			return err
		}
		ms := time.Since(start).Seconds() * 1e3
		if i > 0 && ms > r.ProfiledMS {
			continue
		}
		r.ProfiledMS, r.Operators = ms, usage(plans, spent, opt.Shapes)
		r.Between = ms
		for i := range r.Operators {
			r.Operators[i].Share = r.Operators[i].MS / ms
			r.Between -= r.Operators[i].MS
		}
	}
	return nil
}
