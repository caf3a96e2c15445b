package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/internal/human"
	"jambalaya/internal/safetensors"
	"jambalaya/trainer"
)

func newExportCommand() *cobra.Command {
	var e trainer.Export
	dtype := "float32"
	cmd := &cobra.Command{
		Use:   "export --run DIR --out DIR",
		Short: "Write the newest checkpoint of a run as a folder for a model hub",
		Long: "Writes config.json and model.safetensors under the reference implementation's names.\n" +
			"A model that its configuration cannot express is refused.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if e.Run == "" || e.Out == "" {
				return cli.Config(errors.New("which run, and where to? --run runs/nano --out hub/nano"))
			}
			switch dtype {
			case "float32":
				e.DType = safetensors.F32
			case "bfloat16":
				e.DType = safetensors.BF16
			default:
				return cli.Config(fmt.Errorf("--dtype %s: choose float32 or bfloat16", dtype))
			}
			done, err := trainer.ExportRun(cmd.Context(), e, func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "warning: %s\n", text) })
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s after step %d, as %s, %s: %s\n", e.Run, done.Step, dtype, human.Bytes(done.Bytes), filepath.Join(e.Out, braces(done.Files)))
			return nil
		},
	}
	fs := cmd.Flags()
	cli.RunFlag(fs, &e.Run)
	fs.StringVar(&e.Out, "out", "", "`directory` to make")
	fs.StringVar(&dtype, "dtype", dtype, "`type` of the weights: float32, which keeps every bit, or bfloat16")
	fs.Int64Var(&e.FileBytes, "file-bytes", 5_000_000_000, "most bytes of weights in a file")
	return cmd
}

// braces has the names of files in braces, the first and the last of many.
func braces(files []string) string {
	if n := len(files); n > 6 {
		files = append(append([]string{}, files[:3]...), "...", files[n-1])
	}
	return "{" + strings.Join(files, ", ") + "}"
}
