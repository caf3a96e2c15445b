package chaos

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"syscall"
	"time"

	"jambalaya/checkpoint"
	"jambalaya/internal/prng"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
	"jambalaya/parallel/cluster"
)

// leaseTTL is how soon the lease of the contenders expires: short, so that a thousand
// terms take a minute.
const leaseTTL = 20 * time.Millisecond

// claim is a checkpoint that a process believes to have committed.
type claim struct{ Step, Generation, Term int64 }

// twoCoordinators lets two processes contend for one lease. Each publishes checkpoints
// as long as it holds it, and then stops, as by SIGSTOP, at a moment around the
// publication; its successor wakes it once it has published itself. What the woken one
// then publishes would be a second history.
func twoCoordinators(ctx context.Context, l *lab) (result, error) {
	dir, err := l.place("run")
	if err != nil {
		return result{}, err
	}
	terms := l.reps(40, 1000)
	var both [2]*process
	for i := range both {
		if both[i], err = l.startChild(ctx, "contender", task{Dir: dir, Seed: l.opt.Seed + uint64(i), Count: terms}); err != nil {
			return result{}, err
		}
		defer both[i].kill()
	}
	for _, p := range both {
		if err := wakeUntil(ctx, p, both[:]); err != nil {
			return result{}, err
		}
	}
	var claims []claim
	late := 0
	for _, p := range both {
		var a answer
		if err := json.Unmarshal([]byte(p.out.String()), &a); err != nil || p.code() != 0 {
			return result{}, fmt.Errorf("a contender ended with %s: %s", p.cmd.ProcessState, p.lastLine())
		}
		claims, late = append(claims, a.Claims...), late+a.Done
	}
	dual, err := dualCommits(ctx, dir, claims)
	figure := fmt.Sprintf("%d terms, %d checkpoints, %d that a replaced holder tried to publish refused, %d dual commits", terms, len(claims), late, dual)
	if err != nil {
		return result{figure: figure}, err
	}
	return result{figure, dual == 0 && late > terms/4}, nil
}

// wakeUntil waits for the end of a process. Now and then it wakes all: one that was
// replaced for its slowness stops when nobody is left to wake it.
func wakeUntil(ctx context.Context, p *process, all []*process) error {
	for deadline := time.Now().Add(10 * time.Minute); ; {
		select {
		case <-p.done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * leaseTTL):
		}
		if time.Now().After(deadline) {
			return errors.New("the contenders do not come to an end")
		}
		for _, q := range all {
			if err := q.signal(syscall.SIGCONT); err != nil {
				return err
			}
		}
	}
}

// dualCommits counts steps that were committed twice, or by an older generation than a
// step before them. The last claim must be the newest checkpoint that there is.
func dualCommits(ctx context.Context, dir string, claims []claim) (int, error) {
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.Step, b.Step), cmp.Compare(a.Generation, b.Generation))
	})
	dual := 0
	for i := 1; i < len(claims); i++ {
		if claims[i].Step == claims[i-1].Step || claims[i].Generation < claims[i-1].Generation || claims[i].Term < claims[i-1].Term {
			dual++
		}
	}
	found, skipped, err := newest(ctx, dir)
	switch last := claims[max(len(claims), 1)-1:]; {
	case err != nil:
		return dual, err
	case len(skipped) > 0:
		return dual, fmt.Errorf("damaged: %v", skipped[0])
	case len(last) == 0 || last[0] != claim{found.Manifest.Step, found.Manifest.Generation, found.Manifest.Term}:
		return dual, fmt.Errorf("the newest checkpoint is of step %d, generation %d, not the last that was committed", found.Manifest.Step, found.Manifest.Generation)
	}
	return dual, nil
}

// contender is one of the two processes.
type contender struct {
	root   *vfs.DirFS
	chance *prng.Rand
	began  time.Time
	lease  *cluster.Lease
	claims []claim
	late   int // publications that were refused
}

// contend takes the lease and loses it until there have been as many terms as the task
// says. Answers: the claims, and the publications that were refused.
func contend(t task) (answer, error) {
	root, err := vfs.Dir(t.Dir)
	if err != nil {
		return answer{}, err
	}
	defer root.Close()
	c := &contender{root: root, chance: prng.New(t.Seed, "chaos/contender"), began: time.Now()}
	candidate := cluster.NewCandidate(0, leaseTTL)
	for {
		record, err := cluster.ReadLease(root, ".")
		if err != nil {
			return answer{}, err
		}
		if record.Term >= uint64(t.Count) {
			return answer{Done: c.late, Claims: c.claims}, nil
		}
		if !candidate.Due(c.now(), record) {
			time.Sleep(leaseTTL / 20)
			continue
		}
		mine := cluster.Record{Run: "contended", Holder: strconv.Itoa(os.Getpid()), TTL: leaseTTL}
		c.lease, err = cluster.Acquire(root, ".", c.now(), record, mine)
		if err == nil {
			err = c.hold(record.Holder, uint64(t.Count))
		}
		if err != nil && !replaced(err) {
			return answer{}, err
		}
	}
}

// replaced tells the errors of who has lost the lease.
func replaced(err error) bool {
	for _, lost := range []error{cluster.ErrHeld, cluster.ErrDeposed, cluster.ErrFenced, checkpoint.ErrFenced} {
		if errors.Is(err, lost) {
			return true
		}
	}
	return false
}

func (c *contender) now() time.Duration { return time.Since(c.began) }

// hold makes a generation and publishes in it, until it has been replaced; in the last
// term, once.
func (c *contender) hold(before string, lastTerm uint64) error {
	log, err := cluster.ReadLog(c.root, ".")
	if err != nil {
		return err
	}
	plan := &cluster.Generation{Number: log.Spent() + 1, Term: c.lease.Term(), Run: "contended", Mesh: cluster.Mesh{Data: 1, Expert: 1}}
	event, err := cluster.Commit(c.root, ".", c.lease, plan)
	if err != nil {
		return err
	}
	if _, ok := event.(cluster.Persisted); !ok {
		return cluster.ErrDeposed // the number was another's: the next term takes a new one
	}
	stop := moment(-1)
	opt := checkpoint.Options{Config: checkpoint.Default(), Run: "contended", Term: int64(plan.Term), Generation: int64(plan.Number), Mesh: map[string]int{"data": 1}}
	opt.Fence = func() error {
		stop.at(beforeFence)
		err := cluster.Fence(c.root, ".", plan.Number, plan.Term)
		stop.at(afterFence)
		return err
	}
	m, err := checkpoint.Open(c.root, checkpointDir, opt)
	if err != nil {
		return err
	}
	if _, _, err := m.Latest(context.Background()); err != nil && !errors.Is(err, checkpoint.ErrNone) {
		return err
	}
	for left := 1 + c.chance.Uint64()%3; ; left-- {
		if left == 0 {
			stop = moment(c.chance.Uint64() % moments)
		}
		stop.at(beforeSave)
		step := m.Saved() + 1
		if err := errors.Join(m.Save(small(step)), m.Wait()); err != nil {
			// Replaced, or what it had written has been cleared away.
			c.late++
			if check := c.lease.Check(); check != nil {
				return check
			}
			return err
		}
		c.claims = append(c.claims, claim{step, opt.Generation, opt.Term})
		if pid, err := strconv.Atoi(before); err == nil && pid != os.Getpid() {
			_ = syscall.Kill(pid, syscall.SIGCONT) // it may have ended
		}
		if err := c.lease.Renew(c.now()); err != nil || plan.Term >= lastTerm {
			return err
		}
	}
}

// moment is one at which a holder stops.
type moment int

const (
	beforeSave moment = iota
	beforeFence
	afterFence
	moments = 3
)

// at stops this process if it is the moment.
func (m moment) at(now moment) {
	if m == now {
		_ = syscall.Kill(os.Getpid(), syscall.SIGSTOP)
	}
}

// small is the state of a step.
func small(step int64) *checkpoint.Snapshot {
	return &checkpoint.Snapshot{State: checkpoint.State{Step: step, Trainer: json.RawMessage("{}")}, Tensors: []checkpoint.Tensor{{
		Name: "x", Group: checkpoint.GroupModel, DType: safetensors.F32, Shape: []int64{1}, Data: safetensors.Bytes([]float32{float32(step)})}}}
}
