package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/internal/vfs"
)

// checkpointsDir is where a run keeps its checkpoints.
const checkpointsDir = "checkpoints"

// noArgs refuses arguments: a misspelt command is one to its parent.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return cli.Config(fmt.Errorf("%w; try %s --help", err, cmd.CommandPath()))
	}
	return nil
}

// runFlag adds --run to a command.
func runFlag(cmd *cobra.Command, run *string) {
	cmd.Flags().StringVar(run, "run", "", "directory of the run, as in runs/nano")
}

// openRun opens the directory of a run.
func openRun(run string) (*vfs.DirFS, error) {
	if run == "" {
		return nil, cli.Config(errors.New("which run? Name its directory: --run runs/nano"))
	}
	root, err := vfs.Dir(run)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Config(fmt.Errorf("there is no run at %s: give --run the directory that train wrote", run))
	}
	if err != nil {
		return nil, cli.Config(fmt.Errorf("open run: %w", err))
	}
	return root, nil
}
