package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"jambalaya/internal/cli"
	"jambalaya/internal/engine"
	"jambalaya/parallel/inproc"
	"jambalaya/trainer"
	"jambalaya/trainer/scale"
)

// newScaleCommand predicts; it measures nothing.
func newScaleCommand() *cobra.Command {
	var s scale.Sweep
	var preset, recompute, gpu string
	var asJSON, check bool
	cmd := &cobra.Command{
		Use:   "scale",
		Short: "Predict time, memory and bounds of a step on many GPUs",
		Long: "Predict a training step of a preset, or of a YAML file, on many NVIDIA H200s or H100s: its time, the memory of each, and where the exchange of\n" +
			"tokens between experts or the reduction of gradients begins to bound. The plan is the one a real run would use, the network is simulated.",
		Args: cli.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if check {
				return checkScale(cmd, preset)
			}
			machine, ok := scale.Machines[gpu]
			if !ok {
				return cli.Config(fmt.Errorf("--gpu %s: want %s", gpu, strings.Join(slices.Sorted(maps.Keys(scale.Machines)), " or ")))
			}
			s.Machine = machine()
			if err := fill(&s, preset, recompute); err != nil {
				return cli.Config(err)
			}
			t, err := s.Run()
			if err != nil {
				return cli.Config(err)
			}
			return write(cmd.OutOrStdout(), t, asJSON)
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&preset, "preset", "jamba-v0.1", "preset or YAML `file`")
	fs.StringVar(&gpu, "gpu", "h200", "`kind` of GPU: h100 or h200")
	fs.IntSliceVar(&s.Worlds, "ranks", []int{8, 16, 32, 64, 128, 256, 512, 1024}, "`numbers` of ranks")
	fs.IntVar(&s.Expert, "expert", 8, "columns of the mesh, which share the experts out")
	fs.IntVar(&s.Batch, "batch", 1024, "sequences of a step, of all ranks together")
	fs.IntVar(&s.Micro, "micro", 1, "sequences of a rank's micro-batch")
	fs.IntVar(&s.Length, "length", 0, "tokens of a sequence (default that of the preset)")
	fs.StringVar(&recompute, "recompute", "layer", "`what` is computed again in the backward pass: none, cheap or layer")
	fs.BoolVar(&s.Zero1, "zero1", true, "shard the optimiser's states")
	fs.IntVar(&s.BucketMiB, "bucket", 200, "MiB of gradients that are reduced together")
	fs.BoolVar(&check, "check", false, "instead, compare predictions for 1, 2 and 4 ranks with runs on this machine, over slow links (--preset nano is meant for it)")
	cli.JSONFlag(fs, &asJSON)
	return cmd
}

// checkScale compares with runs: a batch of two sequences a rank, and links on which
// the gradients take about as long as the backward pass.
func checkScale(cmd *cobra.Command, preset string) error {
	cfg, err := trainer.LoadPreset(preset, "trainer.batch_size=2", "trainer.accumulation=1", "trainer.steps=1000", "trainer.minutes=0", "parallel.bucket_mib=1")
	if err != nil {
		return cli.Config(err)
	}
	c := scale.Check{Config: cfg, Worlds: []int{1, 2, 4}, Link: inproc.Link{BytesPerSecond: 100e6, Latency: 200 * time.Microsecond}, Steps: 60}
	all, err := c.Run(cmd.Context())
	if err != nil {
		return err
	}
	return scale.PrintCheck(cmd.OutOrStdout(), c.Link, all)
}

// fill completes a sweep with the preset's model.
func fill(s *scale.Sweep, preset, recompute string) error {
	cfg, err := trainer.LoadPreset(preset)
	if err != nil {
		return err
	}
	s.Name, s.Model = preset, cfg.Model
	if s.Length == 0 {
		s.Length = cfg.Data.SequenceLength
	}
	if s.Recompute, err = engine.ParseRecompute(recompute); err != nil {
		return err
	}
	for _, flag := range []struct {
		name string
		n    int
	}{{"ranks", slices.Min(s.Worlds)}, {"expert", s.Expert}, {"batch", s.Batch}, {"micro", s.Micro}, {"length", s.Length}, {"bucket", s.BucketMiB}} {
		if flag.n < 1 {
			return fmt.Errorf("--%s %d: want 1 or more", flag.name, flag.n)
		}
	}
	return nil
}
