// Command train trains a model: from a preset or a YAML file, on this machine.
//
//	train                                            the default job
//	train --config mini --set trainer.steps=500 --out runs/x
//	train --nproc 4                                  four workers on this machine
//
// The same command again resumes a run that was interrupted. Exit codes: 0 done,
// 1 failure, 75 interrupted with a checkpoint saved (run again), 78 configuration.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"jambalaya/configs"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/trainer"
	"jambalaya/trainer/launch"
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

	nproc     int
	launch    bool // --nproc was given
	join      string
	listen    string
	advertise string
	metrics   string

	certs    string
	insecure bool
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
			f.launch = cmd.Flags().Changed("nproc")
			return f.run(cmd.Context(), cfg)
		},
	}
	cmd.AddCommand(newCertsCommand())
	fs := cmd.Flags()
	fs.StringVar(&f.config, "config", "nano", "preset or YAML `file`")
	cli.SetFlag(fs, &f.set, "a value of the configuration")
	fs.StringVar(&f.out, "out", "", "`directory` of the run (default runs/NAME of the configuration)")
	cli.DeviceFlag(fs, &f.device, "")
	cli.ThreadsFlag(fs, &f.threads)
	fs.BoolVar(&f.fresh, "fresh", false, "move an earlier run in the directory aside and start again")
	fs.IntVar(&f.nproc, "nproc", 1, "workers to start on this machine")
	fs.StringVar(&f.join, "join", "", "`host:port` of the first worker of a run on another machine, to be part of it")
	fs.StringVar(&f.listen, "listen", "", "`host:port` of the first worker here, the next port for all but gossip, two more for each other worker (default loopback)")
	fs.StringVar(&f.advertise, "advertise", "", "`host:port` at which others reach what --listen names, behind NAT or a proxy (default the same)")
	fs.StringVar(&f.metrics, "metrics", "", "`host:port` for Prometheus, or off (default a free port of 127.0.0.1, with --nproc)")
	fs.StringVar(&f.certs, "certs", "", "`directory` of what train certs has made, for workers on several machines")
	fs.BoolVar(&f.insecure, "insecure", false, "go without certificates on a network where nobody else is")
	fs.BoolVar(&f.show, "show-config", false, "print the configuration, with the origin of each value, and exit")
	return cmd
}

// run trains: alone, as a worker among others, or as who looks after some on this
// machine.
func (f *flags) run(ctx context.Context, cfg trainer.Config) error {
	place, err := launch.PlaceFrom(os.Getenv, f.join)
	if err != nil {
		return err
	}
	if f.nproc < 1 {
		return cli.Config(fmt.Errorf("--nproc: %d is not a number of workers", f.nproc))
	}
	options := launch.Options{
		Name: f.name(), Out: f.directory(), Fresh: f.fresh, Stdout: os.Stdout,
		Procs: f.nproc, Args: f.arguments(), Place: place, Listen: f.listen, Advertise: f.advertise, Joining: f.join != "",
		Metrics: f.metrics, Certs: f.certs, Insecure: f.insecure,
	}
	switch alone := !place.Distributed(); {
	case launch.Launched():
		return launch.Worker(ctx, cfg, options)
	case f.nproc > 1 || f.launch && !alone || alone && (f.listen != "" || f.advertise != ""):
		return launch.Launch(ctx, cfg, options)
	case f.metrics != "" && f.metrics != "off":
		return cli.Config(fmt.Errorf("--metrics %s: who starts workers serves them; give --nproc or --listen too", f.metrics))
	case !alone:
		return launch.Worker(ctx, cfg, options)
	}
	return trainer.Run(ctx, cfg, trainer.Options{Name: f.name(), Out: f.directory(), Fresh: f.fresh, Stdout: os.Stdout})
}

// arguments are those of a worker that is started for this process.
func (f *flags) arguments() []string {
	args := []string{"--config", f.config, "--out", f.directory()}
	for _, s := range f.set {
		args = append(args, "--set", s)
	}
	if f.device != "" {
		args = append(args, "--device", f.device)
	}
	if f.threads != 0 {
		args = append(args, "--threads", strconv.Itoa(f.threads))
	}
	if f.join != "" {
		args = append(args, "--join", f.join)
	}
	if f.certs != "" {
		args = append(args, "--certs", f.certs)
	}
	if f.insecure {
		args = append(args, "--insecure")
	}
	return args
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
		set = append(set, config.FlagFor("--device", f.device, "trainer.device"))
	}
	if cmd.Flags().Changed("threads") {
		set = append(set, config.FlagFor("--threads", f.threads, "trainer.threads"))
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
