// Command bench measures this program on the machine it runs on:
//
//	go run ./cmd/bench step --preset cpu-peer --threads 2      training steps, and where their time goes
//	go run ./cmd/bench ranks --preset nano --ranks 1,2          the same on several ranks, and what they wait for
//	go run ./cmd/bench kernels --threads 1                     kernels against the machine's ceilings
//
// With --json each figure is an object on a line. A busy machine measures itself:
// look at the load that is printed. Exit codes: 0 done, 1 failure, 78 configuration.
package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"

	"github.com/spf13/cobra"

	"jambalaya/configs"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/internal/term"
	"jambalaya/trainer/bench"
)

func main() { cli.Main(newCommand()) }

func newCommand() *cobra.Command {
	return cli.Group("bench", "Measure training steps and kernels on this machine, or predict those of larger ones",
		newStepCommand(), newRanksCommand(), newKernelsCommand(), newScaleCommand())
}

func newStepCommand() *cobra.Command {
	opt := bench.StepOptions{Profile: 3}
	var device, profile string
	var threads int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "step",
		Short: "Time training steps of a preset on random tokens, and say where the time goes",
		Long: "Time whole training steps (forward, backward, clipping, optimiser, routed experts) of a preset (" +
			strings.Join(configs.Names(), ", ") + ") or a YAML file on random tokens.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			opt.Set = append(opt.Set, config.FlagFor("--device", device, "trainer.device"), config.FlagFor("--threads", threads, "trainer.threads"))
			limit(threads)
			stop, err := startProfile(profile)
			if err != nil {
				return err
			}
			r, err := bench.Step(cmd.Context(), opt)
			if err := errors.Join(err, stop()); err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), r, asJSON)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opt.Preset, "preset", "cpu-peer", "preset or YAML `file`")
	cli.SetFlag(fs, &opt.Set, "a value of the preset")
	fs.IntVar(&opt.Steps, "steps", 10, "steps to time")
	cli.DeviceFlag(fs, &device, "auto")
	cli.ThreadsFlag(fs, &threads)
	fs.BoolVar(&opt.Shapes, "shapes", false, "list products of different shapes apart")
	fs.StringVar(&profile, "cpuprofile", "", "write a CPU profile to this `file`, for go tool pprof")
	cli.JSONFlag(fs, &asJSON)
	return cmd
}

func newKernelsCommand() *cobra.Command {
	var opt bench.KernelOptions
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "kernels",
		Short: "Time the kernels of the CPU, or of a GPU, against the peak of its arithmetic and the speed of a copy",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			limit(opt.Threads)
			bar := &term.Stages{Out: os.Stderr}
			r, err := bench.Kernels(cmd.Context(), opt, func(done, all int) { bar.Set("kernels", int64(done), int64(all)) })
			bar.Close()
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), r, asJSON)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opt.Device, "device", "cpu", "`name` of the device: cpu or cuda")
	cli.ThreadsFlag(fs, &opt.Threads)
	fs.StringSliceVar(&opt.Presets, "presets", []string{"nano", "cpu-peer", "mini"}, "`presets` whose matrix products are measured")
	cli.JSONFlag(fs, &asJSON)
	return cmd
}

// report is what a command has found out.
type report interface {
	Print(io.Writer) error
	JSON(io.Writer) error
}

func write(w io.Writer, r report, asJSON bool) error {
	if asJSON {
		return r.JSON(w)
	}
	return r.Print(w)
}

// startProfile writes a CPU profile to a file until the returned function is called; no
// name, no profile.
func startProfile(name string) (stop func() error, err error) {
	if name == "" {
		return func() error { return nil }, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, cli.Config(fmt.Errorf("profile: %w", err))
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return nil, errors.Join(fmt.Errorf("profile: %w", err), f.Close())
	}
	return func() error {
		pprof.StopCPUProfile()
		return f.Close()
	}, nil
}

// limit keeps the whole process, the collector too, to the threads of a comparison.
func limit(threads int) {
	if threads > 0 {
		runtime.GOMAXPROCS(threads)
	}
}
