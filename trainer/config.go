package trainer

import (
	"jambalaya/checkpoint"
	"jambalaya/configs"
	"jambalaya/data"
	"jambalaya/internal/config"
	"jambalaya/internal/engine"
	"jambalaya/model"
	"jambalaya/parallel"
	"jambalaya/trainer/optim"
)

// Config is all that decides a run. Start from Default or Load, change what
// differs, call Validate.
type Config struct {
	Model      model.Config      `yaml:"model"`
	Data       data.Config       `yaml:"data"`
	Trainer    RunConfig         `yaml:"trainer"`
	Optim      optim.Config      `yaml:"optim"`
	Parallel   parallel.Config   `yaml:"parallel"`
	Checkpoint checkpoint.Config `yaml:"checkpoint"`
}

// RunConfig is the trainer section: how long to train, on what, and what to show.
type RunConfig struct {
	Steps int `yaml:"steps"` // optimiser steps of the run; 0: as many as fit into Minutes
	// Minutes is the time to train in. It is turned into a number of steps once, when
	// the first steps have been timed, and never more than Steps. 0: no limit.
	Minutes float64 `yaml:"minutes"`
	Seed    uint64  `yaml:"seed"` // of the initial weights; the order of the data has its own

	// InitFrom is the directory of another run, trained or imported, whose weights are
	// the initial ones. Empty: they are drawn.
	InitFrom string `yaml:"init_from"`

	BatchSize    int `yaml:"batch_size"`   // sequences of a micro-batch, of all ranks together
	Accumulation int `yaml:"accumulation"` // micro-batches of a step
	// Parts cuts each step into so many micro-batches over all ranks, a power of two, and
	// adds their gradients up in one tree, so that the bits of a run do not depend on the
	// mesh. 0: a rank computes its share of each of Accumulation micro-batches at once.
	Parts     int    `yaml:"parts"`
	Recompute string `yaml:"recompute"` // none, cheap or layer: memory saved for time
	// SpikeThreshold skips steps whose loss is this many standard deviations above
	// that of the last 128 steps. 0: none.
	SpikeThreshold float64 `yaml:"spike_threshold"`

	// HangSeconds without a step make a worker say what it waits for, with the stacks of
	// all that it does. 0: never.
	HangSeconds int `yaml:"hang_seconds"`
	// Audit records which samples each rank read in each step: audit-r0000.jsonl.
	Audit bool `yaml:"audit"`

	EvalEvery  int `yaml:"eval_every"`  // steps from one validation to the next; the last step has one too
	EvalTokens int `yaml:"eval_tokens"` // held-out tokens of a validation

	Samples       int      `yaml:"samples"`        // texts of a set of samples; 0: none
	SampleEvery   int      `yaml:"sample_every"`   // steps from one set to the next, kept in samples/; 0: only at the end
	SampleTokens  int      `yaml:"sample_tokens"`  // longest sample
	SamplePrompts []string `yaml:"sample_prompts"` // taken in turn
	// SampleTemperature and SampleTopP shape the choice of tokens, as in generate.
	SampleTemperature float64 `yaml:"sample_temperature"`
	SampleTopP        float64 `yaml:"sample_top_p"`

	Device string `yaml:"device"` // auto, cpu or cuda
	// Precision is what activations and products are computed in: fp32, bf16 (with
	// master weights and moments in fp32), or auto, bf16 where the device is a GPU.
	Precision string `yaml:"precision"`
	Threads   int    `yaml:"threads"` // of the CPU; 0: one a core
}

// Default returns a small job with the defaults of every section.
func Default() Config {
	return Config{
		Model: model.Default(),
		Data:  data.Default(),
		Trainer: RunConfig{
			Steps: 1000, Seed: 1, BatchSize: 8, Accumulation: 1, Recompute: "none", HangSeconds: 45, EvalEvery: 100, EvalTokens: 1 << 16,
			SampleTokens: 256, SamplePrompts: []string{"func main() {"}, Samples: 1, SampleTemperature: 0.8, SampleTopP: 0.95,
			Device: "auto", Precision: "auto",
		},
		Optim:      optim.Default(),
		Parallel:   parallel.Default(),
		Checkpoint: checkpoint.Default(),
	}
}

// LoadConfig reads a YAML text over the defaults and --set assignments over both, and
// validates the result. It returns where each value came from.
func LoadConfig(file config.File, assignments []string) (Config, config.Origins, error) {
	cfg := Default()
	origins, err := config.Load(&cfg, file, assignments)
	if err == nil {
		err = config.Locate(cfg.Validate(), origins)
	}
	return cfg, origins, err
}

// LoadPreset is LoadConfig for a preset, or a file, by its name.
func LoadPreset(name string, assignments ...string) (Config, error) {
	file, err := configs.Load(name)
	if err != nil {
		return Config{}, err
	}
	cfg, _, err := LoadConfig(file, assignments)
	return cfg, err
}

// Validate returns every fault of every section, joined, with its key.
func (c Config) Validate() error {
	var f config.Faults
	f.Section("model", c.Model.Validate())
	f.Section("data", c.Data.Validate())
	f.Section("trainer", c.Trainer.Validate())
	f.Section("optim", c.Optim.Validate())
	f.Section("parallel", c.Parallel.Validate())
	f.Section("checkpoint", c.Checkpoint.Validate())
	if f.Err() != nil {
		return f.Err()
	}
	const most = 1 << 31 // int32 indices of rows, and no mistyped sizes
	if n := float64(c.Trainer.BatchSize) * float64(c.Data.SequenceLength); n > most {
		f.Add("trainer.batch_size", "%d sequences of data.sequence_length, %d, are more than %d tokens", c.Trainer.BatchSize, c.Data.SequenceLength, most)
	}
	if c.Trainer.EvalTokens < c.Data.SequenceLength {
		f.Add("trainer.eval_tokens", "%d is less than one sequence of data.sequence_length, %d", c.Trainer.EvalTokens, c.Data.SequenceLength)
	}
	f.Section("parallel", c.Parallel.Fits(c.workload(0)))
	return f.Err()
}

// workload is what the run wants of a mesh for a number of workers, 0 if that is not
// known yet.
func (c Config) workload(world int) parallel.Workload {
	return parallel.Workload{World: world, NumExperts: c.Model.NumExperts, BatchSize: c.Trainer.BatchSize, Parts: c.Trainer.Parts}
}

// perStep is the number of sequences of a step.
func (c RunConfig) perStep() int { return c.BatchSize * c.Accumulation }

// share is how each of some ranks computes its sequences of a step: in how many
// micro-batches, and how many sequences each of them has.
func (c RunConfig) share(ranks int) (batches, rows int) {
	if c.Parts > 0 {
		return c.Parts / ranks, c.BatchSize / c.Parts
	}
	return c.Accumulation, c.BatchSize / ranks
}

// treeParts is how many parts of a step each of some ranks computes; 0: there are none.
func (c RunConfig) treeParts(ranks int) int { return c.Parts / ranks }

// accumulates says whether the micro-batches of a rank add to one sum, one after the other.
func (c RunConfig) accumulates() bool { return c.Accumulation > 1 }

// Validate returns every fault of the section, joined.
func (c RunConfig) Validate() error {
	var f config.Faults
	within := func(key string, value, low, high int) {
		if value < low || value > high {
			f.Add(key, "%d is not between %d and %d", value, low, high)
		}
	}
	const many = 1 << 30
	within("steps", c.Steps, 0, many)
	switch {
	case !(c.Minutes >= 0 && c.Minutes <= 1e6):
		f.Add("minutes", "%v is not between 0 and a million", c.Minutes)
	case c.Steps == 0 && c.Minutes == 0:
		f.Add("steps", "is 0 and so is minutes: set one of them")
	}
	within("batch_size", c.BatchSize, 1, many)
	within("accumulation", c.Accumulation, 1, many)
	switch {
	case c.Parts < 0 || c.Parts&(c.Parts-1) != 0:
		f.Add("parts", "%d is neither 0 nor a power of two", c.Parts)
	case c.Parts > 0 && c.BatchSize%c.Parts != 0:
		f.Add("parts", "%d does not divide the batch_size of %d sequences", c.Parts, c.BatchSize)
	case c.Parts > 0 && c.Accumulation > 1:
		f.Add("parts", "%d already cuts a step into micro-batches: set accumulation to 1, and batch_size to all sequences of a step", c.Parts)
	}
	if _, err := engine.ParseRecompute(c.Recompute); err != nil {
		f.Add("recompute", "%q is not one of none, cheap, layer", c.Recompute)
	}
	if !(c.SpikeThreshold >= 0 && c.SpikeThreshold <= 1e6) {
		f.Add("spike_threshold", "%v is not between 0 and a million", c.SpikeThreshold)
	}
	within("hang_seconds", c.HangSeconds, 0, 24*3600)
	within("eval_every", c.EvalEvery, 1, many)
	within("eval_tokens", c.EvalTokens, 1, many)
	c.validateSamples(&f)
	switch c.Device {
	case "auto", "cpu", "cuda":
	default:
		f.Add("device", "%q is not one of auto, cpu, cuda", c.Device)
	}
	switch c.Precision {
	case "auto", "fp32", "bf16":
	default:
		f.Add("precision", "%q is not one of auto, fp32, bf16", c.Precision)
	}
	within("threads", c.Threads, 0, 1<<12)
	return f.Err()
}

func (c RunConfig) validateSamples(f *config.Faults) {
	within := func(key string, value, high int) {
		if value < 0 || value > high {
			f.Add(key, "%d is not between 0 and %d", value, high)
		}
	}
	within("samples", c.Samples, 1<<16)
	within("sample_every", c.SampleEvery, 1<<30)
	within("sample_tokens", c.SampleTokens, 1<<20)
	if c.Samples > 0 && len(c.SamplePrompts) == 0 {
		f.Add("sample_prompts", "is empty, but samples is %d; give a prompt, which may be \"\"", c.Samples)
	}
	if err := c.sampling(0).Validate(); err != nil {
		f.Add("sample_temperature", "with sample_top_p: %v", err)
	}
}

// sampling is how sample number i is drawn.
func (c RunConfig) sampling(i int) model.Sampling {
	return model.Sampling{Temperature: c.SampleTemperature, TopP: c.SampleTopP, Seed: uint64(i)}
}
