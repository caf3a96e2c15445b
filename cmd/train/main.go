// Command train trains a model: from a preset or a YAML file, on this machine.
//
//	train                                            the default job
//	train --config mini --set trainer.steps=500 --out runs/x
//
// The same command again resumes a run that was interrupted. Exit codes: 0 done,
// 1 failure, 75 interrupted with a checkpoint saved (run again), 78 configuration.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"jambalaya/configs"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/trainer"
)

func main() { cli.Main(command()) }

// flags are the command line.
type flags struct {
	config  string
	set     []string
	out     string
	device  string
	threads int
	fresh   bool
	show    bool
}

func command() *cobra.Command {
	var f flags
	cmd := &cobra.Command{
		Use:   "train",
		Short: "Train a model, or resume the training of one",
		Long: "Train a model from a preset (" + strings.Join(configs.Names(), ", ") + ") or a YAML file.\n" +
			"The same command again resumes a run that was interrupted.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, origins, err := f.load(cmd)
			if err != nil {
				return cli.Config(err)
			}
			if f.show {
				text, err := config.Annotate(cfg, origins)
				if err != nil {
					return err
				}
				_, err = os.Stdout.Write(text)
				return err
			}
			return trainer.Run(cmd.Context(), cfg, trainer.Options{Name: f.name(), Out: f.directory(), Fresh: f.fresh, Stdout: os.Stdout})
		},
	}
	cmd.AddCommand(newCertsCommand())
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", "nano", "preset or YAML `file`")
	fs.StringArrayVar(&f.set, "set", nil, "change a value, as in `key=value`; may be repeated")
	fs.StringVar(&f.out, "out", "", "`directory` of the run (default runs/NAME of the configuration)")
	fs.StringVar(&f.device, "device", "", "auto, cpu or cuda")
	fs.IntVar(&f.threads, "threads", 0, "CPU threads (default one a core)")
	fs.BoolVar(&f.fresh, "fresh", false, "move an earlier run in the directory aside and start again")
	fs.BoolVar(&f.show, "show-config", false, "print the configuration, with the origin of each value, and exit")
	return cmd
}

// load resolves the configuration: defaults, file, --set, then the flags that
// stand for a key.
func (f *flags) load(cmd *cobra.Command) (trainer.Config, config.Origins, error) {
	file, err := configs.Load(f.config)
	if err != nil {
		return trainer.Config{}, nil, err
	}
	set := append([]string(nil), f.set...)
	if cmd.Flags().Changed("device") {
		set = append(set, "trainer.device="+f.device)
	}
	if cmd.Flags().Changed("threads") {
		set = append(set, fmt.Sprintf("trainer.threads=%d", f.threads))
	}
	return trainer.LoadConfig(file, set)
}

// name is the configuration's, without folder and extension.
func (f *flags) name() string {
	base := filepath.Base(f.config)
	return strings.TrimSuffix(strings.TrimSuffix(base, ".yaml"), ".yml")
}

func (f *flags) directory() string {
	if f.out != "" {
		return f.out
	}
	return filepath.Join("runs", f.name())
}
