package main

import (
	"runtime"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"jambalaya/configs"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/trainer/bench"
)

func newRanksCommand() *cobra.Command {
	var opt bench.RanksOptions
	var device string
	var threads int
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ranks",
		Short: "Time training steps of a preset on several ranks of this machine",
		Long: "Time whole training steps of a preset (" + strings.Join(configs.Names(), ", ") + ") or a YAML file on random tokens, on each of several numbers of\n" +
			"ranks. A rank takes the GPU of its number, or threads of its own, and the preset's batch: a perfect machine takes as long for many ranks as for one.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if threads == 0 && len(opt.Worlds) > 0 { // a share of the cores
				threads = max(1, runtime.NumCPU()/max(1, slices.Max(opt.Worlds)))
			}
			opt.Set = append(opt.Set, config.FlagFor("--device", device, "trainer.device"), config.FlagFor("--threads", threads, "trainer.threads"))
			r, err := bench.Ranks(cmd.Context(), opt)
			if err != nil {
				return err
			}
			return write(cmd.OutOrStdout(), r, asJSON)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&opt.Preset, "preset", "nano", "preset or YAML `file`")
	cli.SetFlag(fs, &opt.Set, "a value of the preset")
	fs.IntSliceVar(&opt.Worlds, "ranks", []int{1, 2}, "numbers of ranks")
	fs.IntVar(&opt.Expert, "expert", 1, "columns of the mesh, which share the experts out, where there are as many ranks")
	fs.IntVar(&opt.Steps, "steps", 10, "steps to time")
	cli.DeviceFlag(fs, &device, "auto")
	cli.ThreadsFlag(fs, &threads)
	cli.JSONFlag(fs, &asJSON)
	return cmd
}
