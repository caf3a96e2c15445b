// Command shard tokenizes text into Arrow shards to train on.
//
//	go run ./cmd/shard --input DIR --ext .go --tokenizer bytes --out DIR
//	go run ./cmd/shard --input corpus.jsonl --text-field body --tokenizer bpe-8192 --out DIR
//	go run ./cmd/shard --input go-source --out DIR
//
// The output folder appears complete or not at all. Exit codes: 0 done, 1 failure,
// 75 interrupted, 78 the flags or the input are not usable as given.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"jambalaya/data"
)

const (
	exitFailure     = 1
	exitInterrupted = 75
	exitConfig      = 78
)

// usageError marks a fault of the command line.
type usageError struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes the command and returns its exit code.
func run(ctx context.Context, args []string, stdout, stderr *os.File) int {
	cmd := newCommand(stdout)
	cmd.SetArgs(args)
	cmd.SetOut(stdout)
	cmd.SetErr(stderr)
	err := cmd.ExecuteContext(ctx)
	if err == nil {
		return 0
	}
	if ctx.Err() != nil {
		fmt.Fprintln(stderr, "shard: interrupted; nothing was written, run it again")
		return exitInterrupted
	}
	fmt.Fprintln(stderr, "shard:", err)
	if errors.As(err, new(usageError)) || data.IsConfig(err) {
		return exitConfig
	}
	return exitFailure
}

func newCommand(stdout *os.File) *cobra.Command {
	var job job
	cmd := &cobra.Command{
		Use:           "shard --input INPUT --out DIR",
		Short:         "Tokenize text into Arrow shards to train on",
		Args:          func(_ *cobra.Command, args []string) error { return noArguments(args) },
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return job.run(cmd.Context(), stdout) },
	}
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := cmd.Flags()
	f.StringVar(&job.input, "input", "", "a directory, a file (.jsonl and .parquet hold a text a row), or go-source")
	f.StringVar(&job.out, "out", "", "the folder to make")
	f.StringVar(&job.options.Ext, "ext", "", "extension of the files to read below a directory, such as .go")
	f.StringVar(&job.tokenizer, "tokenizer", "bytes", "bytes, r50k_base, p50k_base, cl100k_base, o200k_base, bpe-N (trained on the input), or a tokenizer.json")
	f.StringVar(&job.options.TextField, "text-field", "text", "field or column of rows with the text")
	f.StringVar(&job.options.MaskField, "mask-field", "", "field or column with a list of 0 or 1 for each byte of the text: whether to learn it")
	f.StringSliceVar(&job.options.HeldOut, "held-out", nil, "directories or files of the input to keep for validation (default: about 2%, chosen by hash)")
	f.StringVar(&job.compression, "compress", "none", "none, or zstd to ship")
	f.BoolVar(&job.force, "force", false, "replace a folder of shards that is already there")
	return cmd
}

func noArguments(args []string) error {
	if len(args) > 0 {
		return usageError{fmt.Errorf("unexpected argument %q; name the input with --input", args[0])}
	}
	return nil
}
