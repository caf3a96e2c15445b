package trainer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"jambalaya/checkpoint"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/internal/vfs"
	"jambalaya/parallel"
)

// openTeam takes this rank's place among the others.
func (r *run) openTeam(context.Context) (err error) {
	r.team, err = newTeam(r.cfg, r.opt.World)
	return err
}

// abandon tells the other ranks that this one has failed. A run that was stopped has
// stopped on all of them.
func (r *run) abandon(err error) {
	if w := r.opt.World; w != nil && !errors.Is(err, ErrStopped) {
		w.Transport.Abort(err)
	}
}

// agree makes sure that all ranks have the configuration of rank 0, which knows what
// was recorded of an earlier start.
func (r *run) agree(ctx context.Context) error {
	text, err := config.Encode(r.cfg)
	if err != nil {
		return err
	}
	leaders, err := r.team.fromLeader(ctx, "configuration", string(text))
	if err != nil || r.team.leads() {
		return err
	}
	want, _, err := LoadConfig(config.File{Name: "the configuration of rank 0", Text: []byte(leaders)}, nil)
	if err != nil {
		return err
	}
	mine := r.cfg
	if mine.Trainer.Minutes > 0 && mine.Trainer.Minutes == want.Trainer.Minutes {
		mine.Trainer.Steps = want.Trainer.Steps // into which they were once turned
	}
	if err := sameConfig(want, mine, r.team.rank); err != nil {
		return cli.Config(err)
	}
	r.cfg = mine
	return nil
}

// sameConfig names the keys in which a rank differs from rank 0, of those that must
// be the same: all but the device and what only rank 0 does.
func sameConfig(leaders, mine Config, rank int) error {
	a, b := leaders.identity(), mine.identity()
	a.Parallel, b.Parallel = leaders.Parallel, mine.Parallel
	a.Checkpoint, b.Checkpoint = leaders.Checkpoint, mine.Checkpoint
	a.Trainer.EvalEvery, b.Trainer.EvalEvery = leaders.Trainer.EvalEvery, mine.Trainer.EvalEvery
	a.Trainer.EvalTokens, b.Trainer.EvalTokens = leaders.Trainer.EvalTokens, mine.Trainer.EvalTokens
	a.Trainer.Minutes, b.Trainer.Minutes = leaders.Trainer.Minutes, mine.Trainer.Minutes
	differences, err := config.Diff(a, b)
	if err != nil {
		return err
	}
	var f config.Faults
	for _, d := range differences {
		f.Add(d.Key, "rank %d has %s, but rank 0 has %s; start all workers with the same configuration", rank, d.B, d.A)
	}
	return f.Err()
}

// meet waits until all ranks are about to take the same step from the same state.
func (r *run) meet(ctx context.Context) error {
	w := r.opt.World
	if w == nil || w.Ready == nil {
		return nil
	}
	hash, err := config.Hash(r.cfg.identity())
	if err != nil {
		return err
	}
	state := sha256.Sum256(fmt.Appendf(nil, "step %d tokens %d of checkpoint %s, configuration %s, data %s", r.done, r.tokens, r.from, hash, r.index.Hash()))
	if err := w.Ready(ctx, r.done, hex.EncodeToString(state[:])); err != nil {
		if ctx.Err() != nil {
			return cli.Interrupted(fmt.Errorf("before step %d: %w", r.done+1, ErrStopped))
		}
		return err
	}
	return nil
}

// sameData makes sure that all ranks read the same samples in the same order.
func (r *run) sameData(ctx context.Context) error {
	mine := fmt.Sprintf("%s, tokenizer %s", r.index.Hash(), r.corpus.Tokenizer().Hash())
	want, err := r.team.fromLeader(ctx, "data", mine)
	if err == nil && want != mine {
		err = fmt.Errorf("data: rank %d has other training data in %s than rank 0: hash %s, not %s; give all workers the same shards",
			r.team.rank, strings.Join(r.corpus.Dirs(), ", "), mine, want)
	}
	return err
}

// latest returns the newest checkpoint that all ranks can verify, or
// checkpoint.ErrNone.
func (r *run) latest(ctx context.Context, fsys vfs.FS) (*checkpoint.Checkpoint, error) {
	var unreadable []string // by some rank
	for {
		found, err := r.newest(ctx, unreadable)
		if err != nil && !errors.Is(err, checkpoint.ErrNone) {
			return nil, err
		}
		name := ""
		if found != nil {
			name = found.Name()
		}
		if name, err = r.team.fromLeader(ctx, "newest checkpoint", name); err != nil {
			return nil, err
		}
		if name == "" {
			if len(unreadable) > 0 {
				return nil, fmt.Errorf("no checkpoint in %s can be read by all workers; is it the same directory for all of them?", r.dir.path)
			}
			return nil, checkpoint.ErrNone
		}
		problem := ""
		if found == nil {
			if found, err = checkpoint.Verify(ctx, fsys, checkpointDir, name); err != nil {
				problem = err.Error()
			}
		}
		problems, err := r.team.messages(ctx, "verified checkpoint", problem)
		if err != nil {
			return nil, err
		}
		whole := true
		for rank, problem := range problems {
			if problem != "" {
				r.printf("warning: rank %d: %s", rank, problem)
				whole = false
			}
		}
		if whole {
			r.store.Loaded(found)
			return found, nil
		}
		unreadable = append(unreadable, name)
	}
}

// openStore makes this rank's part in saving checkpoints.
func (r *run) openStore(fsys vfs.FS) (err error) {
	opt := checkpoint.Options{Config: r.cfg.Checkpoint, Run: r.opt.Name, Done: r.saved,
		Mesh: map[string]int{"data": r.team.mesh.Data, "expert": r.team.mesh.Expert}}
	if w := r.opt.World; w != nil {
		opt.Generation, opt.Term, opt.Fence = int64(w.Transport.Identity().Generation), int64(w.Term), w.Fence
		opt.Peers = savers{r.team.saving}
	}
	r.store, err = checkpoint.Open(fsys, checkpointDir, opt)
	return err
}

// savers are the ranks as package checkpoint sees them.
type savers struct{ parallel.Group }

// Gather implements checkpoint.Peers. A save goes on in the background when the run is
// asked to stop, and ends with the generation.
func (s savers) Gather(what string, message []byte) ([][]byte, error) {
	return gatherBytes(context.Background(), s.Group, parallel.Op{Name: what}, message)
}

// newest returns the newest good checkpoint but for some, on rank 0; nil on others.
func (r *run) newest(ctx context.Context, but []string) (*checkpoint.Checkpoint, error) {
	if !r.team.leads() {
		return nil, nil
	}
	found, skipped, err := r.store.Latest(ctx, but...)
	for _, s := range skipped {
		r.printf("warning: %v", s)
	}
	if errors.Is(err, checkpoint.ErrNone) && len(skipped) > 0 {
		r.printf("warning: no checkpoint is whole: training starts anew")
	}
	return found, err
}
