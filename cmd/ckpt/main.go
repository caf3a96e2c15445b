// Command ckpt lists and checks the checkpoints of a run, and compares the model
// with the reference implementation:
//
//	go run ./cmd/ckpt ls --run runs/nano
//	go run ./cmd/ckpt verify --run runs/nano
//	go run ./cmd/ckpt parity model/testdata/golden/*/
//
// It changes nothing. Exit codes: 0 done, 1 a checkpoint is damaged or cannot be
// read, 78 the command line is wrong or there is no such run.
package main

import (
	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
)

func main() { cli.Main(newCommand()) }

func newCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ckpt",
		Short: "List and check checkpoints; compare the model with the reference",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newListCommand(), newVerifyCommand(), newParityCommand())
	return cmd
}
