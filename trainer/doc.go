// Package trainer runs a training job from a configuration to a trained model. It
// is where the packages that know nothing of each other meet: data brings batches,
// model the graph and the weights, checkpoint keeps them.
//
//	cfg, _, err := trainer.LoadConfig(file, assignments)
//	err = trainer.Run(ctx, cfg, trainer.Options{Name: "nano", Out: "runs/nano", Stdout: os.Stdout})
//
// Reading order: run.go prepares the parts of a run, train.go is the loop, learner.go
// takes one step, eval.go measures, finish.go sums up. snapshot.go turns weights into
// a checkpoint and back, rundir.go knows the files of a run. trained.go opens a
// finished or unfinished run to generate from it.
//
// A run may be one rank of many (World): team.go has the groups of ranks, shard.go what
// a rank holds, gradients.go the reduction of gradients, exchanger.go the way of tokens to
// the experts of other ranks, together.go what ranks agree on before they train.
// docs/parallel.md tells the whole.
//
// # The directory of a run
//
//	config.yaml      the configuration as resolved: a time budget has become steps
//	metrics.jsonl    a line a step (package report)
//	checkpoints/     package checkpoint
//	loss.png, samples.txt, tokenizer.json
//	samples/         the sets of samples during training, if sample_every asks for them
//
// # Invariants
//
// Step k reads the samples [k·B, (k+1)·B) of an order that the configuration fixes,
// whatever happened before. All that a step depends on is in the checkpoint or in the
// configuration: a run that was killed and resumed has the same metrics, but for
// the clock, and the same weights, bit by bit, as one that was not. No result
// depends on the number of threads. One process at a time works in a directory.
//
// # Failures
//
// A run that is asked to stop saves a checkpoint after the step in progress and
// returns ErrStopped. A checkpoint that cannot be saved is reported and training goes
// on, until too many fail. A damaged one is put aside and the one before it is used.
// A step whose loss or gradient is not finite changes nothing and is counted. Errors
// of the configuration are marked with cli.Config.
package trainer
