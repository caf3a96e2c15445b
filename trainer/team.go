package trainer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"time"

	"jambalaya/parallel"
	"jambalaya/parallel/inproc"
)

// team is a rank's hold on the others: the mesh and the groups that it takes part
// in. A run alone is a team of one, whose collectives do nothing.
type team struct {
	world *World // nil: alone
	mesh  parallel.Mesh
	rank  int

	control parallel.Group // all ranks, between the phases of a step
	dense   parallel.Group // all ranks: gradients and weights that all have
	column  parallel.Group // ranks that hold the same experts: their gradients and weights
	row     parallel.Group // ranks that share the experts out: tokens
	saving  parallel.Group // all ranks, in the background: checkpoints

	ways    string // on which gradients, weights and tokens travel; "": none do
	options parallel.GroupOptions
	waited  time.Duration // in operations of control, since it was last read
	waits   parallel.Waits
	links   []time.Duration // by rank, what slowestLink last saw
}

// newTeam forms the groups of a configuration's mesh.
func newTeam(cfg Config, w *World) (*team, error) {
	t := &team{world: w, mesh: cfg.Parallel.Mesh()}
	var transport parallel.Transport
	var err error
	if w != nil {
		transport = w.Transport
	} else if transport, err = inproc.New(1, nil).Join(parallel.Identity{}, 0); err != nil {
		return nil, err
	}
	if err := cfg.fits(transport.Size()); err != nil {
		return nil, err
	}
	t.rank = transport.Rank()
	t.options = parallel.GroupOptions{
		ChunkBytes: cfg.Parallel.ChunkKiB << 10,
		Timeout:    time.Duration(cfg.Parallel.TimeoutSeconds) * time.Second,
		Waits:      &t.waits,
		Tree:       cfg.Trainer.Parts > 0,
	}
	for _, g := range []struct {
		group *parallel.Group
		name  string
		ranks []int
	}{
		{&t.control, "control", t.mesh.World()},
		{&t.dense, "dense", t.mesh.World()},
		{&t.column, "experts", t.mesh.Along(parallel.AxisData, t.rank)},
		{&t.row, "tokens", t.mesh.Along(parallel.AxisExpert, t.rank)},
		{&t.saving, "checkpoint", t.mesh.World()},
	} {
		if *g.group, err = parallel.NewGroup(transport, g.name, g.ranks, t.options); err != nil {
			return nil, err
		}
	}
	return t, nil
}

func (t *team) size() int { return t.mesh.Size() }

// leads says whether this rank does what one must do alone: the run's directory and
// talking to the user.
func (t *team) leads() bool { return t.rank == 0 }

// gather returns the x of every rank, by rank; all have as many.
func (t *team) gather(ctx context.Context, op parallel.Op, x []float64) ([][]float64, error) {
	defer t.wait(time.Now())
	bits, counts := make([]int64, t.size()*len(x)), make([]int, t.size())
	for i := range counts {
		counts[i] = len(x)
	}
	for i, v := range x {
		bits[t.rank*len(x)+i] = int64(math.Float64bits(v))
	}
	if err := parallel.AllGather(ctx, t.control, op, bits, counts); err != nil {
		return nil, err
	}
	all := make([][]float64, t.size())
	for r := range all {
		all[r] = make([]float64, len(x))
		for i := range x {
			all[r][i] = math.Float64frombits(uint64(bits[r*len(x)+i]))
		}
	}
	return all, nil
}

// sum adds the x of all ranks up in one tree, and leaves the result in x on each of them.
func (t *team) sum(ctx context.Context, op parallel.Op, x []float64) error {
	all, err := t.gather(ctx, op, x)
	if err != nil {
		return err
	}
	addPairs(all)
	copy(x, all[0])
	return nil
}

// maxMessage bounds what a rank may announce: the index of a large checkpoint.
const maxMessage = 1 << 28

// gatherBytes returns the message of every rank, by rank.
func gatherBytes(ctx context.Context, g parallel.Group, op parallel.Op, message []byte) ([][]byte, error) {
	const prefix = 8
	sizes := make([]byte, prefix*g.Size())
	binary.LittleEndian.PutUint64(sizes[prefix*g.Rank():], uint64(len(message)))
	counts := make([]int, g.Size())
	for i := range counts {
		counts[i] = prefix
	}
	if err := g.AllGather(ctx, op, sizes, counts); err != nil {
		return nil, err
	}
	total, from := 0, 0
	for r := range counts {
		n := binary.LittleEndian.Uint64(sizes[prefix*r:])
		if n > maxMessage {
			return nil, fmt.Errorf("%s: rank %d announces a message of %d bytes", op.Name, r, n)
		}
		counts[r] = int(n)
		if r < g.Rank() {
			from += counts[r]
		}
		total += counts[r]
	}
	joined := make([]byte, total)
	copy(joined[from:], message)
	if err := g.AllGather(ctx, op, joined, counts); err != nil {
		return nil, err
	}
	all := make([][]byte, g.Size())
	for r, n := range counts {
		all[r], joined = joined[:n:n], joined[n:]
	}
	return all, nil
}

// messages is gatherBytes among all ranks.
func (t *team) messages(ctx context.Context, name string, message string) ([]string, error) {
	defer t.wait(time.Now())
	all, err := gatherBytes(ctx, t.control, parallel.Op{Name: name}, []byte(message))
	if err != nil {
		return nil, err
	}
	texts := make([]string, len(all))
	for r, m := range all {
		texts[r] = string(m)
	}
	return texts, nil
}

// fromLeader returns the leader's message.
func (t *team) fromLeader(ctx context.Context, name, message string) (string, error) {
	if !t.leads() {
		message = ""
	}
	all, err := t.messages(ctx, name, message)
	if err != nil {
		return "", err
	}
	return all[0], nil
}

// allWell returns the first error of the ranks on all of them.
func (t *team) allWell(ctx context.Context, name string, mine error) error {
	problem := ""
	if mine != nil {
		problem = mine.Error()
	}
	problems, err := t.messages(ctx, name, problem)
	if err != nil || t.size() == 1 {
		return errors.Join(mine, err)
	}
	for rank, problem := range problems {
		if problem != "" {
			return fmt.Errorf("rank %d: %s", rank, problem)
		}
	}
	return nil
}

// leaderSays returns what the leader has decided.
func (t *team) leaderSays(ctx context.Context, name string, mine bool) (bool, error) {
	x := []float64{0}
	if mine {
		x[0] = 1
	}
	all, err := t.gather(ctx, parallel.Op{Name: name}, x)
	return err == nil && all[0][0] != 0, err
}

// slowestLink returns the rank whose messages have been under way to this one for longest
// since the last call, and for how long.
func (t *team) slowestLink() (from int, longest time.Duration) {
	if t.world == nil {
		return 0, 0
	}
	timed, ok := t.world.Transport.(parallel.Timed)
	if !ok {
		return 0, 0
	}
	now := timed.UnderWay()
	for rank, sum := range now {
		if t.links != nil {
			sum -= t.links[rank]
		}
		if sum > longest {
			from, longest = rank, sum
		}
	}
	t.links = now
	return from, longest
}

func (t *team) wait(since time.Time) { t.waited += time.Since(since) }
