package recall

import (
	"context"
	"fmt"

	"jambalaya/data/shard"
	"jambalaya/internal/prng"
	"jambalaya/internal/vfs"
)

// Version changes when the same options give another data set.
const Version = 1

// Options describe a data set.
type Options struct {
	Length    int   // tokens of a problem
	Documents int64 // problems, the tasks in turn
	Seed      uint64
}

// Write makes a data set of problems to learn from in the folder dir of fsys, or
// nothing; see shard.Create. It holds nothing out.
func (g *Generator) Write(ctx context.Context, fsys vfs.FS, dir string, o Options) error {
	if o.Length < MinLength {
		return fmt.Errorf("%w: %d tokens; use at least %d", ErrLength, o.Length, MinLength)
	}
	w, err := shard.Create(fsys, dir, shard.Options{Tokenizer: g.tok, LossMask: true})
	if err != nil {
		return err
	}
	tasks := Tasks()
	r := prng.New(o.Seed, fmt.Sprintf("recall/%d/train", o.Length))
	for i := range o.Documents {
		p := g.Problem(tasks[i%int64(len(tasks))], o.Length, r)
		if err = ctx.Err(); err == nil {
			err = w.Add(shard.Train, p.Tokens, p.Answer, len(p.Tokens)-1)
		}
		if err != nil {
			w.Abort()
			return err
		}
	}
	_, err = w.Commit()
	return err
}
