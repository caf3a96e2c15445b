package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"strings"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/cli"
	"jambalaya/internal/engine"
	"jambalaya/model/op"
	"jambalaya/model/op/solo"
	"jambalaya/trainer"
)

func TestStep(t *testing.T) {
	t.Parallel()
	r, err := Step(context.Background(), StepOptions{Preset: "test-tiny", Set: []string{"trainer.threads=1"}, Steps: 2, Profile: 2})
	if err != nil {
		t.Fatal(err)
	}
	if r.Best < r.Median || r.Median <= 0 || r.MedianMS < r.BestMS || r.TFLOPS <= 0 || r.Params == 0 || r.Planned == 0 || r.Peak == 0 {
		t.Errorf("step: %+v", r)
	}
	sum, kernels := r.Between, map[string]bool{}
	for _, u := range r.Operators {
		sum += u.MS
		kernels[u.Kernel] = true
		if u.MS <= 0 || u.Calls == 0 {
			t.Errorf("operator %+v takes no time", u)
		}
	}
	if math.Abs(sum-r.ProfiledMS) > 1e-6 || r.Between < 0 {
		t.Errorf("operators and what lies between take %g ms of %g", sum, r.ProfiledMS)
	}
	for _, k := range []string{"matmul", "selective_scan_grad", "grouped_matmul", "adamw", "sum_squares"} {
		if !kernels[k] {
			t.Errorf("a step without %s", k)
		}
	}
	var out bytes.Buffer
	if err := r.JSON(&out); err != nil || bytes.Count(out.Bytes(), []byte("\n")) != 1 {
		t.Errorf("JSON: %q, %v", out.String(), err)
	}
	var object map[string]any
	if err := json.Unmarshal(out.Bytes(), &object); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"name", "params", "tokens_per_s_best", "tokens_per_s_median", "ms_median", "tflops", "peak_bytes"} {
		if object[key] == nil {
			t.Errorf("JSON lacks %s", key)
		}
	}
}

// A run that ends after some minutes has no number of steps; its rates must be numbers all the same.
func TestStepOfATimedRun(t *testing.T) {
	t.Parallel()
	set := []string{"trainer.threads=1", "trainer.steps=0", "trainer.minutes=1"}
	if _, err := Step(context.Background(), StepOptions{Preset: "test-tiny", Set: set, Steps: 2, Profile: 1}); err != nil {
		t.Error(err)
	}
}

func TestConfigurationErrors(t *testing.T) {
	t.Parallel()
	for name, opt := range map[string]StepOptions{
		"preset": {Preset: "nono", Steps: 1, Profile: 1},
		"steps":  {Preset: "test-tiny", Steps: 0, Profile: 1},
		"value":  {Preset: "test-tiny", Steps: 1, Profile: 1, Set: []string{"trainer.batch_size=0"}},
	} {
		if _, err := Step(context.Background(), opt); cli.Code(err) != cli.CodeConfig {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Kernels(context.Background(), KernelOptions{Threads: -1}, nil); cli.Code(err) != cli.CodeConfig {
		t.Errorf("threads: %v", err)
	}
}

func TestStopped(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Step(ctx, StepOptions{Preset: "test-tiny", Steps: 1, Profile: 1}); err == nil || cli.Code(err) != cli.CodeFailure {
		t.Errorf("stopped: %v", err)
	}
}

// TestMeasure runs every operator's case at a small size.
func TestMeasure(t *testing.T) {
	t.Parallel()
	be := cpu.New(1)
	defer be.Close()
	cases := map[string]func() (solo.Program, error){
		"matmul,":           func() (solo.Program, error) { return solo.MatMul(8, 24, 16, true, false) },
		"rms_norm,":         func() (solo.Program, error) { return solo.RMSNorm(8, 16) },
		"split_norm,":       func() (solo.Program, error) { return solo.SplitNorm(8, 4, 16) },
		"conv1d,":           func() (solo.Program, error) { return solo.Conv(2, 8, 16, 4) },
		"selective_scan,":   func() (solo.Program, error) { return solo.Scan(2, 8, 16, 16, 4) },
		"swiglu,":           func() (solo.Program, error) { return solo.SwiGLU(8, 16) },
		"cross_entropy,":    func() (solo.Program, error) { return solo.CrossEntropy(8, 16) },
		"embedding,":        func() (solo.Program, error) { return solo.Embedding(8, 16, 4) },
		"add,":              func() (solo.Program, error) { return solo.Add(8, 16) },
		"router_topk,":      func() (solo.Program, error) { return solo.Router(8, 4, 2) },
		"grouped_matmul,":   func() (solo.Program, error) { return solo.Experts(8, 16, 32, 4, 2) },
		"sum_squares,adamw": func() (solo.Program, error) { return solo.AdamW(100, false) },
		"attention,": func() (solo.Program, error) {
			return solo.Attention(2, 8, op.Heads{Heads: 4, KVHeads: 2, HeadDim: 8})
		},
	}
	for kernels, build := range cases {
		m := meter{be: be}
		if err := m.measure(kernelCase{build: build}); err != nil {
			t.Errorf("%s: %v", kernels, err)
			continue
		}
		found := map[string]bool{}
		for _, s := range m.samples {
			kernel, _, _ := strings.Cut(s.name, " ")
			found[kernel] = true
			if r := s.report(Ceilings{FMA: 1e9, Copy: 1e9}); r.BestMS <= 0 || r.MedianMS < r.BestMS || r.Bytes <= 0 || r.Fraction <= 0 {
				t.Errorf("%+v", r)
			}
		}
		first, second, _ := strings.Cut(kernels, ",")
		if second == "" && first != "matmul" && first != "add" {
			second = first + "_grad"
			if first == "grouped_matmul" {
				second = "grouped_matmul_dw"
			}
		}
		if !found[first] || second != "" && !found[second] {
			t.Errorf("%s: measured %v", kernels, found)
		}
	}
}

func TestWork(t *testing.T) {
	t.Parallel()
	tensor := func(shape ...int) *engine.Tensor { return &engine.Tensor{Shape: shape} }
	for _, c := range []struct {
		call engine.Call
		want work
	}{
		{engine.Call{Kernel: "matmul", In: []*engine.Tensor{tensor(4, 8), tensor(5, 4)}, Out: []*engine.Tensor{tensor(8, 5)}},
			work{2 * 8 * 5 * 4, 4 * (32 + 20 + 40)}},
		{engine.Call{Kernel: "embedding", In: []*engine.Tensor{tensor(1000, 4), tensor(3)}, Out: []*engine.Tensor{tensor(3, 4)}},
			work{0, 4 * (3 + 12 + 12)}},
		{engine.Call{Kernel: "swiglu", In: []*engine.Tensor{tensor(3, 8)}, Out: []*engine.Tensor{tensor(3, 4), nil}}, work{0, 4 * (24 + 12)}},
		{engine.Call{Kernel: "grouped_matmul_dw", In: []*engine.Tensor{tensor(6, 8), tensor(6, 5), tensor(3)}, Out: []*engine.Tensor{tensor(2, 8, 5)}},
			work{2 * 6 * 8 * 5, 4 * (48 + 30 + 3 + 80)}},
	} {
		if got := workOf(&c.call); got != c.want {
			t.Errorf("%s: %v, want %v", c.call.Kernel, got, c.want)
		}
	}
}

func TestFloor(t *testing.T) {
	t.Parallel()
	c := Ceilings{FMA: 100, Copy: 10}
	if s, by := c.floor(work{flops: 1000, bytes: 20}); s != 10 || by != "fma" {
		t.Errorf("arithmetic binds: %v, %s", s, by)
	}
	if s, by := c.floor(work{flops: 1000, bytes: 200}); s != 20 || by != "copy" {
		t.Errorf("memory binds: %v, %s", s, by)
	}
	if s, by := (Ceilings{Copy: 10}).floor(work{flops: 1000, bytes: 20}); s != 2 || by != "copy" {
		t.Errorf("without a peak: %v, %s", s, by)
	}
}

func TestPresetProducts(t *testing.T) {
	t.Parallel()
	cfg, err := trainer.LoadPreset("cpu-peer")
	if err != nil {
		t.Fatal(err)
	}
	all, err := presetProducts(cfg)
	if err != nil {
		t.Fatal(err)
	}
	has := map[product]bool{}
	for _, p := range all {
		if has[p] {
			t.Errorf("%+v is there twice", p)
		}
		has[p] = true
	}
	for _, p := range []product{{1024, 512, 256, false, true}, {512, 256, 1024, true, false}, {1024, 48, 512, false, true}} {
		if !has[p] {
			t.Errorf("cpu-peer lacks product %+v", p)
		}
	}
}
