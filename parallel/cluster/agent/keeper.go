package agent

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"jambalaya/parallel/cluster"
)

// keeper looks after the lease and the log, in a goroutine of its own: a slow disk must
// not hold up heartbeats.
type keeper struct {
	a         *agent
	candidate *cluster.Candidate
	lease     *cluster.Lease // held by this process; nil: by another, or none
	mine      cluster.Record // of that lease
	plans     chan *cluster.Generation
	yields    chan uint64 // terms to give back
	done      chan struct{}
	stopped   chan struct{}
	said      string // last fault

	with atomic.Uint64 // term whose holder this process was with last
	dead atomic.Uint64 // term whose holder has ended
}

// gone says that nobody listens any more at the address of a term's holder. Who was with
// it need not wait for its lease to expire. Should the holder live all the same, it is
// fenced as one that was replaced in its sleep.
func (k *keeper) gone(term uint64) {
	if k.with.Load() == term {
		k.dead.Store(term)
	}
}

func (a *agent) keep() *keeper {
	set := a.opt.Settings
	delay := 2 * tick * time.Duration(max(a.opt.Hello.Rank, 0)%16)
	k := &keeper{a: a, candidate: cluster.NewCandidate(delay, set.Lease), plans: make(chan *cluster.Generation, 1), yields: make(chan uint64, 1),
		done: make(chan struct{}), stopped: make(chan struct{})}
	go k.run()
	return k
}

// stop ends the keeper and gives the lease back.
func (k *keeper) stop() {
	close(k.done)
	<-k.stopped
	if k.lease != nil {
		_ = k.lease.Release() // else it expires
	}
}

// commit has a generation recorded.
func (k *keeper) commit(term uint64, plan *cluster.Generation) {
	select {
	case k.plans <- plan:
	case <-k.stopped:
	}
}

// yield gives the lease of a term back, for another process to take it.
func (k *keeper) yield(term uint64) {
	select {
	case k.yields <- term:
	case <-k.stopped:
	}
}

func (k *keeper) run() {
	defer close(k.stopped)
	const often = 3 * tick
	timer := time.NewTimer(0)
	defer timer.Stop()
	var renewed time.Duration
	for {
		select {
		case <-k.done:
			return
		case plan := <-k.plans:
			k.record(plan)
		case term := <-k.yields:
			if k.lease != nil && k.lease.Term() == term {
				_ = k.lease.Release() // else it expires
				k.abstain(k.a.opt.Settings.Abstain)
			}
		case <-timer.C:
			switch now := k.a.now(); {
			case k.lease == nil:
				k.look(now)
				renewed = now
			case now-renewed >= k.a.opt.Settings.Lease/5:
				renewed = now
				if err := k.lease.Renew(now); err != nil {
					k.trouble(err)
				}
			}
			if k.lease != nil {
				k.found(k.mine)
			}
			timer.Reset(often)
		}
	}
}

// look reads the lease, takes it if it has expired, and tells the worker who
// coordinates.
func (k *keeper) look(now time.Duration) {
	opt := &k.a.opt
	record, err := cluster.ReadLease(opt.Dir, ".")
	if err != nil {
		k.trouble(err)
		return
	}
	if record.Run != "" && record.Run != opt.Settings.Run {
		k.trouble(fmt.Errorf("the lease in the run's directory is of run %q, not %q", record.Run, opt.Settings.Run))
		return
	}
	left := record
	left.Released = left.Released || left.Term != 0 && left.Term == k.dead.Load()
	if !k.candidate.Due(now, left) || opt.Late && !k.a.ever.Load() {
		k.found(record)
		return
	}
	mine := cluster.Record{Run: opt.Settings.Run, Holder: opt.Hello.Worker + "-" + opt.Process, Address: opt.Address, TTL: opt.Settings.Lease}
	if opt.Gossip != nil {
		mine.Gossip = opt.Gossip.Address()
	}
	lease, err := cluster.Acquire(opt.Dir, ".", now, record, mine)
	if errors.Is(err, cluster.ErrHeld) {
		return
	}
	if err != nil {
		k.trouble(err)
		return
	}
	log, err := cluster.ReadLog(opt.Dir, ".")
	if err != nil {
		_ = lease.Release()
		k.trouble(err)
		return
	}
	k.lease = lease
	if opt.Gossip != nil {
		opt.Gossip.announce(lease.Term())
	}
	k.a.post(func() { k.a.appoint(lease.Term(), log, record.Holder) })
	k.mine = mine
	k.mine.Term = lease.Term()
}

// found tells the worker about a coordinator, once it asks.
func (k *keeper) found(r cluster.Record) {
	if r.Address == "" || r.Released {
		return
	}
	a := k.a
	a.post(func() { a.found(r.Term, r.Address) })
	if r.Gossip != "" && a.opt.Gossip != nil {
		a.opt.Gossip.seed(r.Gossip)
	}
}

// found offers the worker a coordinator.
func (a *agent) found(term uint64, address string) {
	if a.seeking || term > a.worker.Term() {
		a.step(cluster.Found{Term: term, Address: address})
	}
}

// record appends a generation to the log, and tells the coordinator.
func (k *keeper) record(plan *cluster.Generation) {
	if k.lease == nil || k.lease.Term() != plan.Term {
		return
	}
	event, err := cluster.Commit(k.a.opt.Dir, ".", k.lease, plan)
	if err != nil {
		k.trouble(err)
		if !errors.Is(err, cluster.ErrDeposed) {
			// The disk is full, say. A coordinator that cannot record is none.
			_ = k.lease.Release()
			k.resign(err)
		}
		return
	}
	k.a.post(func() { k.a.bossStep(event) })
}

// trouble reports a fault of the directory once, and resigns if the lease is gone.
func (k *keeper) trouble(err error) {
	if errors.Is(err, cluster.ErrDeposed) {
		k.resign(err)
		return
	}
	if text := err.Error(); text != k.said {
		k.said = text
		k.a.opt.Say(true, text)
	}
}

func (k *keeper) resign(err error) {
	k.abstain(k.a.opt.Settings.Lease)
	k.a.post(func() { k.a.depose(err) })
}

// abstain lets others take the lease first, for a while.
func (k *keeper) abstain(d time.Duration) {
	k.lease = nil
	k.candidate = cluster.NewCandidate(d, k.a.opt.Settings.Lease)
	if k.a.opt.Gossip != nil {
		k.a.opt.Gossip.announce(0)
	}
}
