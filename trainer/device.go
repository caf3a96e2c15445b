package trainer

import (
	"errors"
	"fmt"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/cli"
	"jambalaya/internal/engine"
	"jambalaya/internal/resident"
	"jambalaya/model"
)

// Device is a backend with what a run records of it.
type Device struct {
	engine.Backend
	// Path names the code that computes, down to the instruction set or the
	// libraries: a resume on another path may round differently, and says so.
	Path  string
	close func()
	gpu   *cuda.Backend // nil if it is no GPU
	room  func() int64  // bytes that the process can have of it; nil where that is not known
}

// Peak is how many bytes of memory have been taken to compute: on a processor, the most
// that the process has been resident in since resident.Reset, 0 where that is unknown;
// on a GPU, what is taken of it now, by whomever, with the driver's own, which is the
// most too while a plan holds all that it needs from its start.
func (d *Device) Peak() int64 {
	if d.gpu != nil {
		return d.gpu.Used()
	}
	return resident.Peak()
}

// newWeights allocates what a rank holds of the weights of a training run, in its
// precision, and makes that part of the device's path.
func (d *Device) newWeights(cfg Config, s *shard) (*model.Weights, error) {
	var p model.Precision
	switch gpu := d.Name() == "cuda"; {
	case cfg.Trainer.Precision == "bf16" && !gpu:
		return nil, cli.Config(fmt.Errorf("trainer.precision: bf16 needs a GPU; on device %s set it to auto or fp32", d.Name()))
	case cfg.Trainer.Precision == "bf16", cfg.Trainer.Precision == "auto" && gpu:
		p.Compute = engine.BFloat16
		if cfg.Trainer.Accumulation == 1 && cfg.Trainer.Parts <= 1 && s.alone { // a sum of many is kept in fp32
			p.Grad = engine.BFloat16
		}
		d.Path += "/bf16"
	}
	return model.NewShardedWeights(d, s.layout, s.states(), p)
}

// Unwrap is the backend itself.
func (d *Device) Unwrap() engine.Backend { return d.Backend }

// Close gives the device back.
func (d *Device) Close() { d.close() }

// OpenDevice returns the device of that name: cpu, cuda, or auto for the best
// there is. threads is the number of CPU workers, 0 for all cores.
func OpenDevice(name string, threads int) (*Device, error) { return OpenLocalDevice(name, threads, 0) }

// OpenLocalDevice is OpenDevice for one of several ranks of a machine: each has a GPU
// of its own, as far as they last.
func OpenLocalDevice(name string, threads, local int) (*Device, error) {
	switch name {
	case "auto", "":
		d, err := openCUDA(local)
		if errors.Is(err, cuda.ErrUnavailable) {
			return openCPU(threads)
		}
		return d, err
	case "cuda":
		d, err := openCUDA(local)
		if errors.Is(err, cuda.ErrUnavailable) {
			return nil, cli.Config(fmt.Errorf("%w; use --device cpu", err))
		}
		return d, err
	case "cpu":
		return openCPU(threads)
	}
	return nil, cli.Config(fmt.Errorf("device %q: want auto, cpu or cuda", name))
}

func openCPU(threads int) (*Device, error) {
	if threads < 0 {
		return nil, cli.Config(fmt.Errorf("--threads %d: want 0 (one a core) or more", threads))
	}
	if err := cpu.Usable(); err != nil {
		return nil, cli.Config(fmt.Errorf("device cpu: %w", err))
	}
	b := cpu.New(threads)
	return &Device{Backend: b, Path: b.Path(), close: b.Close}, nil
}

func openCUDA(local int) (*Device, error) {
	b, err := cuda.New(local % max(1, cuda.Devices()))
	if err != nil {
		return nil, fmt.Errorf("device cuda: %w", err)
	}
	return &Device{Backend: b, gpu: b, Path: b.Path(), close: b.Close, room: b.Room}, nil
}
