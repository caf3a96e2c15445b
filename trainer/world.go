package trainer

import (
	"context"
	"fmt"

	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/parallel"
)

// World is this process's place among the ranks that train one model, for one
// generation. Whoever calls Run has joined the generation, and closes the
// transport when Run has returned.
//
// Run ends with an error that wraps parallel.ErrLost, ErrTimeout, ErrAborted or
// ErrGeneration when the generation is over: join the next one and call Run again, on as
// many ranks as there are then (see Config.OnRanks). It resumes from the newest
// checkpoint that all of them can read. A rank whose Run fails in any other way has told
// the others, by Transport.Abort. ErrStopped is returned on all ranks alike when
// the context of one of them ended: all have finished the same step, and it is saved.
// Options.Fresh does nothing in a world: see Prepare.
type World struct {
	// Transport reaches the other ranks. The number of its generation is above that
	// of every checkpoint in the run's directory: an older one may not publish.
	Transport parallel.Transport
	// Local is the rank's place among those of its machine: it takes the GPU of this
	// number, and shares it if there are fewer.
	Local int
	// Term is that of the lease under which the generation was made. Checkpoints
	// carry it.
	Term uint64
	// Ready, if there is one, is told the step that this rank is about to go on from,
	// with a hash of all that ranks must have in common, and returns when the others
	// have said the same. An error ends Run.
	Ready func(ctx context.Context, step int64, state string) error
	// Fence, if there is one, is asked on rank 0 right before a checkpoint is
	// published. An error stops the publication; one that wraps checkpoint.ErrFenced
	// says that the generation may never publish again.
	Fence func() error
	// Again says that this process has trained in an earlier generation: what has been
	// said of data and model is still so.
	Again bool
	// Silent says that somebody else shows how far training is.
	Silent bool
	// Watch, if there is one, is told of every step that this rank has taken, between
	// steps: it must not block.
	Watch func(Progress)
	// Still, if there is one, is told now and then of a rank that has taken no step for
	// half of the configuration's HangSeconds. It must not block.
	Still func(Standstill)
}

// Progress is what a rank says of itself after a step.
type Progress struct {
	Step    int64   // just taken
	Steps   int64   // of the run
	Saved   int64   // step of the newest checkpoint, as far as this rank knows; -1: none
	Tokens  int     // that this rank read in the step
	Seconds float64 // that the step took
	Waited  float64 // of these, in which it waited for other ranks
	Link    float64 // seconds, since the step before, in which messages of rank From were under way to this one; 0: not known
	From    int     // the rank whose messages were so for longest
	Result  StepResult
}

// OnRanks returns the configuration for a world of size ranks: the expert axis as
// configured, and as many ranks of data as that leaves. A batch or experts that
// cannot be shared out are errors of the configuration.
func (c Config) OnRanks(size int) (Config, error) {
	if size < 1 || size%c.Parallel.Expert != 0 {
		return c, cli.Config(fmt.Errorf("parallel.expert: %d does not divide the %d workers there are", c.Parallel.Expert, size))
	}
	c.Parallel.Data = size / c.Parallel.Expert
	return c, c.fits(size)
}

// fits says why the configuration cannot run on so many ranks.
func (c Config) fits(world int) error {
	var f config.Faults
	f.Section("parallel", c.Parallel.Fits(c.workload(world)))
	return cli.Config(f.Err())
}
