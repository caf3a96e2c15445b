package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/internal/vfs"
)

// checkpointsDir is where a run keeps its checkpoints.
const checkpointsDir = "checkpoints"

// newRunCommand is a command that reads the checkpoints of a run.
func newRunCommand(name, short string, read func(ctx context.Context, out io.Writer, fsys vfs.FS, run string) error) *cobra.Command {
	var run string
	cmd := &cobra.Command{
		Use: name + " --run DIR", Short: short, Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			root, err := openRun(run)
			if err != nil {
				return err
			}
			defer root.Close()
			return read(cmd.Context(), cmd.OutOrStdout(), root, run)
		},
	}
	cli.RunFlag(cmd.Flags(), &run)
	return cmd
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
