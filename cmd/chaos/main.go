// Command chaos breaks training runs on purpose and prints what becomes of them:
//
//	go run ./cmd/chaos                     the scorecard of docs/reliability.md
//	go run ./cmd/chaos --short             the same with fewer repetitions
//	go run ./cmd/chaos --rows 1,12-16      some of its rows
//
// It starts real processes of the train command and needs a few minutes for the short
// form. Rows that mount small disks or trace processes need root on Linux and are
// skipped elsewhere. Exit codes: 0 all targets met, 1 a target missed, 78 configuration.
package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/trainer/chaos"
)

func main() {
	chaos.Child() // one that a row started to read bytes in does so and exits here
	cli.Main(command())
}

func command() *cobra.Command {
	opt := chaos.Options{Out: os.Stdout}
	var list string
	cmd := &cobra.Command{
		Use:   "chaos",
		Short: "Break training runs on purpose and measure what becomes of them",
		Long:  "Break training runs on purpose and measure what becomes of them. The rows are those of docs/reliability.md.",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if opt.Rows, err = parseRows(list, chaos.Numbers()); err != nil {
				return cli.Config(err)
			}
			return chaos.Run(cmd.Context(), opt)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&list, "rows", "", "`numbers` of rows, as in 1,12-16 (default all)")
	fs.BoolVar(&opt.Short, "short", false, "fewer repetitions")
	fs.IntVar(&opt.Retry, "retry", 0, "run a row that missed again, so often at most; every miss is printed")
	cli.JSONFlag(fs, &opt.JSON)
	fs.Uint64Var(&opt.Seed, "seed", 1, "seed of what is drawn by chance")
	fs.StringVar(&opt.Train, "train", "", "`binary` of the train command (default: build it)")
	fs.StringVar(&opt.Dir, "dir", "", "`directory` for runs and logs, which stays (default: a temporary one)")
	return cmd
}

// parseRows reads a list of numbers and ranges. A range takes the rows that exist in
// it; a number must exist.
func parseRows(list string, known []int) ([]int, error) {
	if list == "" {
		return nil, nil
	}
	var picked []int
	for part := range strings.SplitSeq(list, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		low, err := strconv.Atoi(from)
		high := low
		if err == nil && isRange {
			high, err = strconv.Atoi(to)
		}
		if err != nil || low > high {
			return nil, fmt.Errorf("--rows: %q is neither a row nor a range as in 3-7", part)
		}
		if !isRange && !slices.Contains(known, low) {
			return nil, fmt.Errorf("--rows: there is no row %d; the rows are %v", low, known)
		}
		for _, n := range known {
			if n >= low && n <= high && !slices.Contains(picked, n) {
				picked = append(picked, n)
			}
		}
	}
	if len(picked) == 0 {
		return nil, fmt.Errorf("--rows: no row is in %q; the rows are %v", list, known)
	}
	return picked, nil
}
