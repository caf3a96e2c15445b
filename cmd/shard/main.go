// Command shard tokenizes text into Arrow shards to train on.
//
//	go run ./cmd/shard --input DIR --ext .go --tokenizer bytes --out DIR
//	go run ./cmd/shard --input corpus.jsonl --text-field body --tokenizer bpe-8192 --out DIR
//	go run ./cmd/shard --input go-source --out DIR
//
// The output folder appears complete or not at all. Exit codes: 0 done, 1 failure,
// 75 interrupted, 78 the command line or the input is not usable as given.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
)

func main() { cli.Main(command(os.Stdout)) }

func command(stdout *os.File) *cobra.Command {
	var j job
	cmd := &cobra.Command{
		Use:   "shard",
		Short: "Tokenize text into Arrow shards to train on",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return cli.Config(fmt.Errorf("unexpected argument %q; name the input with --input", args[0]))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return classify(cmd.Context(), j.run(cmd.Context(), stdout))
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&j.input, "input", "", "`text` to read: a directory, a file (.jsonl and .parquet hold a text a row), or go-source")
	fs.StringVar(&j.out, "out", "", "`directory` to make")
	fs.StringVar(&j.options.Ext, "ext", "", "`extension` of the files to read below a directory, such as .go")
	fs.StringVar(&j.tokenizer, "tokenizer", "bytes", "`name`: bytes, r50k_base, p50k_base, cl100k_base, o200k_base, bpe-N (trained on the input), or a tokenizer.json")
	fs.StringVar(&j.options.TextField, "text-field", "text", "`field` or column of rows with the text")
	fs.StringVar(&j.options.MaskField, "mask-field", "", "`field` or column with a list of 0 or 1 for each byte of the text: whether to learn it")
	fs.StringSliceVar(&j.options.HeldOut, "held-out", nil, "`paths` below the input to keep for validation (default: about 2%, chosen by hash)")
	fs.StringVar(&j.compression, "compress", "none", "`how`: none, or zstd to ship")
	fs.BoolVar(&j.force, "force", false, "replace shards that are already there")
	return cmd
}
