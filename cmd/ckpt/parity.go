package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/trainer"
	"jambalaya/trainer/parity"
)

// errDiffers is the end of a comparison in which a case failed.
var errDiffers = errors.New("the model differs from the reference")

func newParityCommand() *cobra.Command {
	tol := parity.DefaultTolerances()
	var (
		device  string
		threads int
		brief   bool
	)
	cmd := &cobra.Command{
		Use:   "parity DIR...",
		Short: "Compare the model with recorded runs of the reference implementation",
		Long: "Each DIR holds config.json, model.safetensors and golden.safetensors.\n" +
			"Prints a block a folder, PASS or FAIL; the exit code is 0 only if all pass.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cli.Config(errors.New("which cases? Name their folders, as in model/testdata/golden/*/"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, dirs []string) error {
			dev, err := trainer.OpenDevice(device, threads)
			if err != nil {
				return err
			}
			defer dev.Close()
			passed := 0
			for _, dir := range dirs {
				report, err := parity.Run(dev, dir, tol)
				if err != nil {
					return err
				}
				text := report.String()
				if brief {
					text = report.Summary()
				}
				fmt.Fprintln(cmd.OutOrStdout(), text)
				if report.Pass() {
					passed++
				}
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d of %d cases pass on %s\n", passed, len(dirs), dev.Path)
			if passed < len(dirs) {
				return errDiffers
			}
			return nil
		},
	}
	fs := cmd.Flags()
	fs.Float64Var(&tol.Absolute, "tolerance", tol.Absolute, "largest absolute error of hidden states, logits, loss and aux loss")
	fs.Float64Var(&tol.Gradient, "gradient-tolerance", tol.Gradient, "largest error of a gradient over its tensor's largest element")
	fs.Float64Var(&tol.AdamWLoss, "adamw-loss-tolerance", tol.AdamWLoss, "largest absolute error of the losses of the AdamW run")
	fs.Float64Var(&tol.AdamWNorm, "adamw-norm-tolerance", tol.AdamWNorm, "largest relative error of its gradient norms")
	fs.BoolVar(&brief, "brief", false, "of the gradients, only the worst and those that differ")
	cli.DeviceFlag(fs, &device, "auto")
	cli.ThreadsFlag(fs, &threads)
	return cmd
}
