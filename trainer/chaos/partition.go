package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"jambalaya/internal/prng"
	"jambalaya/parallel/cluster"
)

// networkRows cut and narrow the network between the machines of a run.
var networkRows = []row{
	{7, "3/1 and 2/2 partitions, healed", "one side publishes at most, heals in 10 s", partitions},
	{8, "one-way partitions, healed", "as row 7, no livelock", oneWay},
	{9, "a worker throttled to 10 Mbit", "flagged as straggler within 3 steps", throttled},
}

// split is a way for the network to fall apart.
type split struct {
	name       string
	boss       bool // the coordinator is on the smaller side
	size       int  // of that side
	mute, deaf bool // what fails: that it is heard, that it hears
}

func partitions(ctx context.Context, l *lab) (result, error) {
	kinds := []split{{"a worker", false, 1, true, true}, {"the coordinator", true, 1, true, true}, {"two and two", true, 2, true, true}}
	if l.opt.Short {
		kinds = kinds[1:]
	}
	return l.splits(ctx, kinds, l.reps(1, 10))
}

func oneWay(ctx context.Context, l *lab) (result, error) {
	kinds := []split{{"a worker is not heard", false, 1, true, false}, {"a worker hears nothing", false, 1, false, true},
		{"the coordinator is not heard", true, 1, true, false}, {"the coordinator hears nothing", true, 1, false, true}}
	if l.opt.Short {
		kinds = kinds[1:3]
	}
	return l.splits(ctx, kinds, l.reps(1, 5))
}

// splits cuts the network of a run again and again, and wants a side to train on each
// time, no more than one side to publish, and all to train together when it is healed.
func (l *lab) splits(ctx context.Context, kinds []split, times int) (result, error) {
	f, err := l.startFleet(ctx, "run", append(endless, fleetSettings...)...)
	if err != nil {
		return result{}, err
	}
	defer f.stopAll()
	chance := l.chance()
	var heals, gaps []time.Duration
	made := 0 // generations in one partition, at most
	for range times {
		for _, kind := range kinds {
			slept := l.awake.slept()
			s, err := f.split(ctx, chance, kind)
			if err != nil {
				return result{figure: fmt.Sprintf("%s, after %d partitions", kind.name, len(heals))}, err
			}
			if l.awake.slept() == slept {
				heals, gaps, made = append(heals, s.healed), append(gaps, s.gap), max(made, s.made)
			}
		}
	}
	if err := f.stopAll(); err != nil {
		return result{}, err
	}
	list, err := f.history()
	if err != nil {
		return result{}, err
	}
	worst := quantile(heals, 1)
	figure := fmt.Sprintf("%d partitions: one side trained on, after %s at worst, and it alone published (%d checkpoints in all); %d generations in one at most; all together again %s after healing at worst",
		len(heals), secondsOf(quantile(gaps, 1)), len(list), made, secondsOf(worst))
	return result{figure, worst <= 10*time.Second && made <= 4}, f.numbersGrow()
}

// outcome of a partition.
type parted struct {
	gap    time.Duration // from the cut to a step of one side
	healed time.Duration // from healing to a step of all
	made   int           // generations meanwhile
}

// split cuts the network once and heals it.
func (f *fleet) split(ctx context.Context, chance *prng.Rand, kind split) (parted, error) {
	boss, _, err := f.coordinator()
	if err != nil {
		return parted{}, err
	}
	before, err := f.generation()
	if err != nil {
		return parted{}, err
	}
	side := map[int]bool{}
	if kind.boss {
		side[boss] = true
	}
	for len(side) < kind.size {
		if i := chance.IntN(f.size); i != boss {
			side[i] = true
		}
	}
	// Those who may go on: the larger side, or of two equal ones that with the lease.
	goesOn := func(worker string) bool {
		i, err := strconv.Atoi(worker)
		return err == nil && side[i] == (2*kind.size == f.size)
	}
	cut := time.Now()
	f.net.cut(side, kind.mute, kind.deaf)
	during, err := f.trainsWith(ctx, before, func(g cluster.Generation) bool {
		return len(g.Members) < f.size && !slices.ContainsFunc(g.Members, func(m cluster.Member) bool { return !goesOn(m.Worker) })
	})
	if err != nil {
		return parted{}, err
	}
	gap := time.Since(cut)
	if _, err := f.until(ctx, "nothing is published", func() (bool, error) {
		list, err := f.published()
		return slices.ContainsFunc(list, func(p publication) bool { return p.Generation == int64(during.Number) }), err
	}); err != nil {
		return parted{}, err
	}
	if err := pause(ctx, time.Duration(chance.Float64()*2*float64(time.Second))); err != nil {
		return parted{}, err
	}
	if err := f.oneSide(cut, goesOn); err != nil {
		return parted{}, err
	}
	healed := time.Now()
	f.net.heal()
	if _, err := f.whole(ctx, during.Number); err != nil {
		return parted{}, err
	}
	return parted{gap, time.Since(healed), int(during.Number - before)}, f.oneSide(cut, goesOn)
}

// oneSide looks at what was published since a cut, but for what all have made together
// before it and after: it must be of the side that went on.
func (f *fleet) oneSide(cut time.Time, goesOn func(worker string) bool) error {
	list, err := f.published()
	if err != nil {
		return err
	}
	log, err := f.generations()
	if err != nil {
		return err
	}
	members := map[int64]cluster.Generation{}
	for _, g := range log {
		members[int64(g.Number)] = g
	}
	count := 0
	for _, p := range list {
		g := members[p.Generation]
		if p.at < cut.UnixMilli() || len(g.Members) == f.size {
			continue // of all together: the generation before, or the one after
		}
		count++
		for _, m := range g.Members {
			if !goesOn(m.Worker) {
				return fmt.Errorf("step %d was published by generation %d, with worker %s of the other side", p.Step, p.Generation, m.Worker)
			}
		}
	}
	if count == 0 {
		return errors.New("nobody published anything while the network was cut")
	}
	return nil
}

// history checks what the run has committed: each step once, later ones by later
// generations and terms, and each sample once.
func (f *fleet) history() ([]publication, error) {
	list, err := f.published()
	if err != nil {
		return nil, err
	}
	for i := 1; i < len(list); i++ {
		a, b := list[i-1], list[i]
		if b.Step <= a.Step || b.Generation < a.Generation || b.Term < a.Term {
			return list, fmt.Errorf("step %d of generation %d, term %d, and step %d of generation %d, term %d: two histories",
				a.Step, a.Generation, a.Term, b.Step, b.Generation, b.Term)
		}
	}
	if len(list) == 0 {
		return list, errors.New("nothing was published")
	}
	_, err = committed(f.dir, list[len(list)-1].Step, crewBatch)
	return list, err
}
