// Command ckpt lists and checks the checkpoints of a run:
//
//	go run ./cmd/ckpt ls --run runs/nano
//	go run ./cmd/ckpt verify --run runs/nano
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
		Short: "List and check the checkpoints of a run",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newListCommand(), newVerifyCommand())
	return cmd
}
