// Command generate continues a prompt with a trained model.
//
//	generate --run runs/nano --prompt "func main() {" --max-new-tokens 200 --temperature 0.8
//
// The same seed gives the same text. Exit codes: 0 done, 1 failure, 78 a bad
// command line or configuration.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/trainer"
)

func main() { cli.Main(command()) }

// mostTokens keeps positions within 32 bits.
const mostTokens = 1 << 30

func command() *cobra.Command {
	var (
		run, device string
		threads     int
		req         trainer.Generation
	)
	cmd := &cobra.Command{
		Use:   "generate",
		Short: "Continue a prompt with a trained model",
		Args:  cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := req.Sampling.Validate(); err != nil {
				return cli.Config(err)
			}
			if req.MaxNewTokens < 0 || req.MaxNewTokens > mostTokens {
				return cli.Config(fmt.Errorf("--max-new-tokens %d: want a number from 0 to %d", req.MaxNewTokens, mostTokens))
			}
			if run == "" {
				return cli.Config(errors.New("which run? Name its directory: --run runs/nano"))
			}
			trained, err := trainer.OpenTrained(cmd.Context(), run, device, threads)
			if err != nil {
				return err
			}
			defer trained.Close()
			out := bufio.NewWriter(os.Stdout)
			defer out.Flush()
			fmt.Fprint(out, req.Prompt)
			err = trained.Generate(cmd.Context(), req, func(text []byte) error {
				if _, err := out.Write(text); err != nil {
					return err
				}
				return out.Flush()
			})
			fmt.Fprintln(out)
			return err
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&run, "run", "runs/nano", "`directory` of the run")
	fs.StringVar(&req.Prompt, "prompt", "", "`text` to continue; none begins a new text")
	fs.IntVar(&req.MaxNewTokens, "max-new-tokens", 200, "most tokens to generate; the text may end before")
	fs.Float64Var(&req.Sampling.Temperature, "temperature", 0.8, "how bold the draws are; 0: always the most likely token")
	fs.IntVar(&req.Sampling.TopK, "top-k", 0, "draw from the k most likely tokens; 0: all")
	fs.Float64Var(&req.Sampling.TopP, "top-p", 0.95, "draw from the most likely tokens that together reach p; 0: all")
	fs.Uint64Var(&req.Sampling.Seed, "seed", 1, "seed of the draws: the same gives the same text")
	cli.DeviceFlag(fs, &device, "auto")
	cli.ThreadsFlag(fs, &threads)
	return cmd
}
