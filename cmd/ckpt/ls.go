package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"jambalaya/checkpoint"
	"jambalaya/internal/human"
	"jambalaya/internal/vfs"
)

func newListCommand() *cobra.Command {
	return newRunCommand("ls", "List the checkpoints of a run, newest first, by their manifests", list)
}

func list(_ context.Context, out io.Writer, fsys vfs.FS, run string) error {
	entries, err := checkpoint.List(fsys, checkpointsDir)
	if err != nil {
		return err
	}
	if len(entries) == 0 {
		fmt.Fprintf(out, "no checkpoints in %s\n", path.Join(run, checkpointsDir))
	} else {
		printTable(out, entries)
	}
	aside, err := fsys.ReadDir(path.Join(checkpointsDir, "quarantine"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(aside) > 0 {
		fmt.Fprintf(out, "%d damaged, in %s\n", len(aside), path.Join(run, checkpointsDir, "quarantine"))
	}
	return nil
}

func printTable(out io.Writer, entries []checkpoint.Entry) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "CHECKPOINT\tGENERATION\tAFTER STEP\tFILES\tSIZE\tCREATED")
	for _, e := range entries {
		m := e.Manifest
		if m == nil {
			fmt.Fprintf(table, "%s\t%v\n", e.Name, e.Err)
			continue
		}
		after := "-"
		if m.Parent >= 0 {
			after = fmt.Sprint(m.Parent)
		}
		fmt.Fprintf(table, "%s\t%d\t%s\t%d\t%s\t%s\n",
			e.Name, m.Generation, after, len(m.Files)+1, human.Bytes(m.Size()), m.Created.Local().Format(time.DateTime))
	}
	table.Flush()
}
