package trainer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"jambalaya/checkpoint"
	"jambalaya/data"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/internal/human"
	"jambalaya/internal/term"
	"jambalaya/internal/vfs"
	"jambalaya/model"
	"jambalaya/trainer/report"
)

// ErrStopped is returned when a run was asked to stop and has saved its state.
var ErrStopped = errors.New("stopped; the same command goes on from here")

// Options are what Run needs besides the configuration.
type Options struct {
	Name   string // of the preset, for titles
	Out    string // the run's directory
	Fresh  bool   // move an earlier run in Out aside instead of resuming it
	Stdout *os.File
	World  *World // nil: this process trains alone

	// wrap stands between the run and its checkpoints' file system; tests kill the
	// process in it.
	wrap func(vfs.FS) vfs.FS
	// inspect sees the learner before its first step; tests follow it.
	inspect func(*learner)
}

// Run trains: it prepares the corpus, starts or resumes the run in the directory,
// and leaves metrics, checkpoints, a plot and samples there. Cancelling the
// context saves a checkpoint after the step in progress and returns ErrStopped.
//
// With a World it trains as one rank of many. Rank 0 does what one must do alone, and
// speaks for all; the directory is one that all ranks see.
func Run(ctx context.Context, cfg Config, opt Options) error {
	r := &run{cfg: cfg, opt: opt}
	defer r.close()
	for _, part := range []func(context.Context) error{
		r.openTeam, r.openDir, r.agree, r.openCorpus, r.openModel, r.introduce, r.restore, r.budget, r.meet, r.train, r.finish,
	} {
		if err := part(ctx); err != nil {
			r.abandon(err)
			return err
		}
	}
	return nil
}

// run is one process's work on a run. Its parts are prepared one after the other
// by the methods that Run lists.
type run struct {
	cfg  Config
	opt  Options
	team *team
	dir  *runDir

	corpus  *data.Corpus
	index   *data.Index
	loader  *data.Loader
	device  *Device
	shard   *shard
	weights *model.Weights
	learner *learner
	eval    *evaluator

	files   *vfs.DirFS // that the store writes to
	store   *checkpoint.Manager
	metrics *report.Metrics // nil unless this rank leads
	from    string          // hash of the checkpoint that was loaded, "" for none
	done    int64           // optimiser steps taken
	tokens  int64           // read by them
	show    *term.Progress

	audit    *audit    // nil: none
	watchdog *watchdog // while it trains
}

func (r *run) close() {
	if r.show != nil {
		r.show.Close()
	}
	if r.learner != nil {
		r.learner.close()
	}
	if r.eval != nil {
		r.eval.close()
	}
	if r.loader != nil {
		r.loader.Close()
	}
	if r.metrics != nil {
		r.metrics.Close()
	}
	if r.team != nil {
		r.team.close()
	}
	r.audit.close()
	if r.device != nil {
		r.device.Close()
	}
	if r.corpus != nil {
		r.corpus.Close()
	}
	switch {
	case r.store != nil:
		r.store.Leave(func() { r.files.Close() }) // a disk that stands still must not keep this rank from the next generation
	case r.files != nil:
		r.files.Close()
	}
	if r.dir != nil {
		r.dir.close()
	}
}

// openDir makes the run's directory and reads what was recorded of an earlier start. A
// run alone locks it. In a world the generation decides who may write: a lock would
// stay with a process that is stopped, and lock out who has replaced it.
func (r *run) openDir(context.Context) (err error) {
	if r.opt.World != nil {
		r.dir = &runDir{path: r.opt.Out}
		if !r.team.leads() {
			return nil
		}
		err = os.MkdirAll(r.opt.Out, 0o755)
	} else {
		r.dir, err = openRunDir(r.opt.Out, r.opt.Fresh)
	}
	if err != nil {
		return err
	}
	if r.dir.old != "" {
		r.printf("the earlier run is now in %s", r.dir.old)
	}
	recorded, resumed, err := r.dir.recorded()
	if err != nil || !resumed {
		return err
	}
	if r.dir.imported() {
		return cli.Config(fmt.Errorf("%[1]s holds an imported model: train from it in another directory, with --set trainer.init_from=%[1]s and --out", r.opt.Out))
	}
	if r.cfg, err = r.cfg.Resume(recorded); err != nil {
		return cli.Config(err)
	}
	return nil
}

// printf tells the user; rank 0 speaks for all.
func (r *run) printf(format string, args ...any) {
	if !r.team.leads() {
		return
	}
	if r.show != nil {
		r.show.Logf(format, args...)
		return
	}
	fmt.Fprintf(r.opt.Stdout, format+"\n", args...)
}

// openCorpus shards the text if that has not been done, and fixes the order of
// the samples.
func (r *run) openCorpus(ctx context.Context) error {
	bars := &term.Stages{Out: r.opt.Stdout, Format: human.Bytes}
	corpus, err := data.Open(ctx, r.cfg.Data, func(p data.Progress) { bars.Set(p.Stage+" "+p.Source, p.Done, p.Total) })
	bars.Close()
	if err != nil {
		return ofData(err)
	}
	r.corpus = corpus
	if r.index, err = corpus.Index(r.cfg.Trainer.Seed); err != nil {
		return ofData(err)
	}
	return r.sameData(ctx)
}

// ofData marks the errors of package data that the configuration is to blame for. A key of
// its section has the section's name before it here.
func ofData(err error) error {
	if fault, ok := errors.AsType[*data.ConfigError](err); ok {
		return cli.Config(fmt.Errorf("data.%w", fault))
	}
	if data.IsConfig(err) {
		return cli.Config(err)
	}
	return err
}

func (r *run) checkVocabulary() error {
	if n := r.corpus.Tokenizer().VocabSize(); n > r.cfg.Model.VocabSize {
		return cli.Config(fmt.Errorf("model.vocab_size: %d is smaller than the vocabulary of tokenizer %s, %d", r.cfg.Model.VocabSize, r.corpus.Tokenizer().ID(), n))
	}
	return nil
}

// openModel makes the weights and plans.
func (r *run) openModel(ctx context.Context) (err error) {
	c := r.cfg
	defer func() { err = explainMemory(r.device, c, r.team, err) }()
	if err := r.checkVocabulary(); err != nil {
		return err
	}
	local := 0
	if w := r.opt.World; w != nil {
		local = w.Local
	}
	if r.device, err = OpenLocalDevice(c.Trainer.Device, c.Trainer.Threads, local); err != nil {
		return err
	}
	if err := r.team.useGPUs(ctx, r.device, c.Parallel); err != nil {
		return err
	}
	r.shard = newShard(c, r.team)
	if r.weights, err = r.device.newWeights(c, r.shard); err != nil {
		return err
	}
	if r.learner, err = newLearner(r.device, r.weights, c, r.team, r.shard); err != nil {
		return err
	}
	if r.eval, err = newEvaluator(r.device, r.weights, c, r.team, r.learner, r.corpus); err != nil {
		return err
	}
	if r.opt.inspect != nil {
		r.opt.inspect(r.learner)
	}
	return nil
}

// introduce says what is trained on what, and how. What has been said in an earlier
// generation is not said again, but for the ranks, which may be others.
func (r *run) introduce(context.Context) error {
	if w := r.opt.World; w == nil || !w.Again {
		counts := r.cfg.Model.Counts()
		r.printf("data: %s tokens to learn from, tokenizer %s, in %s", human.Count(float64(r.corpus.Tokens())), r.corpus.Tokenizer().ID(),
			strings.Join(r.corpus.Dirs(), ", "))
		r.printf("model: %s parameters, %s active a token; %s", human.Count(float64(counts.Total)), human.Count(float64(counts.Active)), r.device.Path)
		r.printf("memory: %s", r.learner.memory())
	}
	if r.team.ways != "" {
		r.printf("ranks: %d of data x %d of experts; %s", r.team.mesh.Data, r.team.mesh.Expert, r.team.ways)
	}
	return nil
}

// restore loads the newest good checkpoint, or draws the initial weights.
func (r *run) restore(ctx context.Context) (err error) {
	if r.files, err = vfs.Dir(r.dir.path); err != nil {
		return err
	}
	fsys := vfs.FS(r.files)
	if r.opt.wrap != nil {
		fsys = r.opt.wrap(fsys)
	}
	if err := r.openStore(fsys); err != nil {
		return err
	}
	found, err := r.latest(ctx, fsys)
	switch {
	case errors.Is(err, checkpoint.ErrNone):
		return r.initialise(ctx)
	case err != nil:
		return err
	}
	return r.resume(found)
}

// resume takes a checkpoint's place in the run.
func (r *run) resume(c *checkpoint.Checkpoint) error {
	same, err := r.savedBy(c.State.ConfigHash)
	if err != nil {
		return err
	}
	if !same {
		return cli.Config(fmt.Errorf("checkpoint %s is not of the configuration in %s: restore the one it was saved with, or start another run with --out or --fresh",
			c.Name(), r.dir.file(configFile)))
	}
	if c.State.DataHash != r.index.Hash() {
		return fmt.Errorf("checkpoint %s was trained on other data than %s; restore the data, or start another run with --out or --fresh", c.Name(), strings.Join(r.corpus.Dirs(), ", "))
	}
	if c.State.CPUPath != r.device.Path {
		r.printf("warning: the checkpoint was computed on %s, this is %s: results may differ in the last bits", c.State.CPUPath, r.device.Path)
	}
	if err := restoreTensors(r.device, r.weights, c, false); err != nil {
		return err
	}
	r.from = c.Manifest.SHA256
	saved, err := decodeCounters(c.State.Trainer)
	if err != nil {
		return err
	}
	r.done, r.tokens, r.learner.state = c.State.Step, saved.Tokens, saved.Optim
	r.printf("resumed from step %d of %d", r.done, r.cfg.Trainer.Steps)
	if r.done >= int64(r.cfg.Trainer.Steps) {
		r.printf("the run is complete; --fresh starts it again")
	}
	return nil
}

// savedBy says whether a checkpoint with the hash of a configuration is one of this run.
// A program that did not know some of the keys has left them out of its hash, as of the
// configuration that it recorded; openDir has compared the values that they have by default.
func (r *run) savedBy(saved string) (bool, error) {
	hash, err := config.Hash(r.cfg.identity())
	if err != nil || saved == hash {
		return err == nil, err
	}
	known, err := r.dir.recordedKeys()
	if err != nil {
		return false, err
	}
	hash, err = config.HashOf(r.cfg.identity(), func(key string) bool { return known[key] != "" })
	return saved == hash, err
}

// openLoader starts reading at the sample that step done+1 begins with.
func (r *run) openLoader() (*data.Loader, error) {
	perStep := r.cfg.Trainer.perStep()
	from, to := r.team.mesh.Samples(r.team.rank, perStep)
	return data.NewLoader(r.index, data.LoaderOptions{Rows: to - from, Start: r.done*int64(perStep) + int64(from), Stride: int64(perStep), Prefetch: r.cfg.Data.Prefetch})
}

// openMetrics takes back the lines of steps that are taken again.
func (r *run) openMetrics() (err error) {
	last := r.done
	if r.done == 0 {
		last = -1
	}
	if r.opt.World != nil {
		// A rank of an earlier generation may wake up with a line to write: it has the
		// old file then.
		text, err := os.ReadFile(r.dir.file(metricsFile))
		if err == nil {
			err = writeFile(r.dir.file(metricsFile), text)
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("metrics: %w", err)
		}
	}
	if r.metrics, err = report.OpenMetrics(r.dir.file(metricsFile), last); err != nil {
		return err
	}
	if have := r.metrics.Last(); have < last {
		r.printf("warning: %s ends with step %d: the lines up to step %d are lost", r.dir.file(metricsFile), max(have, 0), last)
	}
	return nil
}
