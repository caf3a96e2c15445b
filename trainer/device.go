package trainer

import (
	"fmt"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/cli"
	"jambalaya/internal/engine"
)

// Device is a backend with what a run records of it.
type Device struct {
	engine.Backend
	// Path names the code that computes, down to the instruction set: a resume
	// on another path may round differently, and says so.
	Path  string
	close func()
}

// Close gives the device back.
func (d *Device) Close() { d.close() }

// OpenDevice returns the device of that name: cpu, cuda, or auto for the best
// there is. threads is the number of CPU workers, 0 for all cores.
func OpenDevice(name string, threads int) (*Device, error) {
	switch name {
	case "cpu", "auto", "":
		if err := cpu.Usable(); err != nil {
			return nil, cli.Config(err)
		}
		b := cpu.New(threads)
		return &Device{Backend: b, Path: b.Path(), close: b.Close}, nil
	case "cuda":
		return nil, fmt.Errorf("device cuda: this build has no CUDA backend; use --device cpu")
	}
	return nil, fmt.Errorf("device %q: want auto, cpu or cuda", name)
}
