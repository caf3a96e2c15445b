package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"time"

	"github.com/spf13/cobra"

	"jambalaya/checkpoint"
	"jambalaya/internal/human"
	"jambalaya/internal/vfs"
)

func newVerifyCommand() *cobra.Command {
	return newRunCommand("verify", "Read every byte of every checkpoint of a run and compare it with the manifests", verify)
}

func verify(ctx context.Context, out io.Writer, fsys vfs.FS, run string) error {
	entries, err := checkpoint.List(fsys, checkpointsDir)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		return fmt.Errorf("%w in %s", checkpoint.ErrNone, path.Join(run, checkpointsDir))
	}
	newest, bad := "", 0
	for _, e := range entries {
		start := time.Now()
		c, err := checkpoint.Verify(ctx, fsys, checkpointsDir, e.Name)
		switch {
		case errors.Is(err, context.Canceled):
			return err
		case errors.Is(err, checkpoint.ErrGone):
			continue
		case err != nil:
			bad++
			fmt.Fprintf(out, "BAD  %v\n", err)
			continue
		case newest == "":
			newest = e.Name
		}
		fmt.Fprintf(out, "ok   %s: %d tensors, %s, read in %s\n",
			e.Name, len(c.Tensors()), human.Bytes(c.Manifest.Size()), human.Duration(time.Since(start)))
	}
	switch {
	case newest == "":
		return fmt.Errorf("none of %d checkpoints is whole; train starts anew", len(entries))
	case bad > 0:
		return fmt.Errorf("%d of %d checkpoints are damaged; train goes on from %s", bad, len(entries), newest)
	}
	return nil
}
