package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/internal/human"
	"jambalaya/trainer"
)

func newImportCommand() *cobra.Command {
	var out, tokenizer string
	cmd := &cobra.Command{
		Use:   "import DIR --out DIR",
		Short: "Make a run from a folder of a model hub: config.json and model.safetensors",
		Long: "Reads Jamba, Mixtral, Llama and Mamba as the reference implementation writes them, in one\n" +
			"file or several. The run can be generated from, verified and exported, and training\n" +
			"can start from it with trainer.init_from.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return cli.Config(errors.New("which model? Name one folder with config.json and model.safetensors"))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			done, err := trainer.ImportHub(args[0], out, tokenizer)
			if err != nil {
				return err
			}
			w, m := cmd.OutOrStdout(), done.Config.Model
			fmt.Fprintf(w, "%s: %s, %s parameters, tokenizer %s\n", out, m.ModelType, human.Count(float64(m.Counts().Total)), done.Tokenizer.ID())
			if n := done.Tokenizer.VocabSize(); n > m.VocabSize {
				fmt.Fprintf(w, "its vocabulary of %d has no room for the %d tokens of %s: name its own with --tokenizer to generate or train\n", m.VocabSize, n, done.Tokenizer.ID())
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&out, "out", "", "`directory` of the run to make")
	cmd.Flags().StringVar(&tokenizer, "tokenizer", "", "`name`: bytes, r50k_base, p50k_base, cl100k_base, o200k_base, or a tokenizer.json of ours (default: as exported, else bytes)")
	return cmd
}
