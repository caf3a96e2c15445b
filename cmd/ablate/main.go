// Command ablate runs a grid of variants and seeds, and reports which variant pays.
//
//	ablate --config ablation_ratio --out runs/ablation
//	ablate --config ablation_ratio --dry-run
//
// The same command again goes on with a grid that was interrupted; several may work on
// one folder. Exit codes: 0 done, 1 failure, 75 interrupted (run again), 78
// configuration.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"jambalaya/configs"
	"jambalaya/experiments"
	"jambalaya/internal/cli"
)

func main() { cli.Main(command()) }

func command() *cobra.Command {
	var (
		name   string
		set    []string
		dryRun bool
		report bool
		opt    experiments.Options
	)
	cmd := &cobra.Command{
		Use:   "ablate",
		Short: "Compare variants of a model over seeds, and write a report",
		Long: "Run the cells of a grid (" + strings.Join(configs.Grids(), ", ") + ", or a YAML file) and write a report.\n" +
			"The same command again goes on with a grid that was interrupted.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			file, err := configs.LoadGrid(name)
			if err != nil {
				return cli.Config(err)
			}
			spec, err := experiments.LoadSpec(file, set)
			if err != nil {
				return cli.Config(err)
			}
			grid, err := experiments.NewGrid(spec)
			if err != nil {
				return cli.Config(err)
			}
			if opt.Jobs < 0 || opt.Threads < 0 {
				return cli.Config(fmt.Errorf("--jobs %d, --threads %d: want 0 or more", opt.Jobs, opt.Threads))
			}
			opt.Stdout = os.Stdout
			if opt.Out == "" {
				opt.Out = filepath.Join("runs", strings.TrimSuffix(filepath.Base(file.Name), filepath.Ext(file.Name)))
			}
			switch {
			case dryRun:
				return experiments.DryRun(grid, opt)
			case report:
				return experiments.Report(grid, opt)
			}
			return experiments.Run(cmd.Context(), grid, opt)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&name, "config", "ablation_ratio", "grid: a preset or a YAML `file`")
	cli.SetFlag(fs, &set, "a value of the grid (seeds=[1,2]) or of every cell (trainer.steps=100)")
	fs.StringVar(&opt.Out, "out", "", "`directory` of the grid (default runs/NAME of the grid)")
	cli.DeviceFlag(fs, &opt.Device, "")
	fs.IntVar(&opt.Threads, "threads", 0, "CPU threads of a cell (default 1 where cells run side by side)")
	fs.IntVar(&opt.Jobs, "jobs", 0, "cells side by side (default one a core, or 1 on a GPU)")
	fs.BoolVar(&dryRun, "dry-run", false, "print cells, sizes and the time expected, and exit")
	fs.BoolVar(&report, "report", false, "write the report of what is done so far, and exit")
	return cmd
}
