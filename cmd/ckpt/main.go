// Command ckpt lists and checks the checkpoints of a run, moves models from and to
// hubs, and compares the model with the reference implementation:
//
//	go run ./cmd/ckpt ls --run runs/nano
//	go run ./cmd/ckpt verify --run runs/nano
//	go run ./cmd/ckpt export --run runs/nano --out hub/nano
//	go run ./cmd/ckpt import hub/nano --out runs/imported
//	go run ./cmd/ckpt parity model/testdata/golden/*/
//
// No run is changed. Exit codes: 0 done, 1 a checkpoint is damaged or cannot be read,
// 78 the command line is wrong, there is no such run, or the hub's format and this
// program have no model in common.
package main

import (
	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
)

func main() { cli.Main(newCommand()) }

func newCommand() *cobra.Command {
	return cli.Group("ckpt", "List, check, import and export checkpoints; compare the model with the reference",
		newListCommand(), newVerifyCommand(), newImportCommand(), newExportCommand(), newParityCommand())
}
