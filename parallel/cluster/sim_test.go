package cluster

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"jambalaya/internal/vfs"
)

// sim runs whole workers, each with a candidate for the lease, in one goroutine and
// by a clock of its own. The log and the lease are the real ones, on a file system
// in memory; messages arrive in order and at once, unless a process is frozen or a
// network cut.
type sim struct {
	t      *testing.T
	fs     *vfs.Mem
	now    time.Duration
	set    Settings
	procs  map[string]*proc
	starts int
	saved  []Checkpoint
	cut    map[string]int // side of a partition; 0 without one
	text   strings.Builder
	queue  []func()
}

// proc is a process.
type proc struct {
	name, id  string
	hello     Hello
	worker    *Worker
	candidate *Candidate
	lease     *Lease
	boss      *Coordinator
	link      *stream // the worker's end
	inbox     []func()
	frozen    bool
	dead      bool
	seeking   bool
	coupled   map[string]*stream // the coordinator's ends, by incarnation
	loadHash  string             // of the state it loads, if not the usual
	stuck     bool               // does not acknowledge
	yielded   bool               // the lease, since it last made a generation
	step      int64
	released  bool
}

// stream is between a worker and the process of a coordinator.
type stream struct {
	id           string
	worker, boss *proc
	shut         bool // nothing more is sent
	closed       bool // nothing more arrives
}

const quantum = 50 * time.Millisecond

func newSim(t *testing.T, set Settings) *sim {
	return &sim{t: t, fs: vfs.NewMem(), set: set, procs: map[string]*proc{}, cut: map[string]int{}}
}

func (s *sim) printf(p *proc, format string, args ...any) {
	fmt.Fprintf(&s.text, "%6.2fs %s: %s\n", s.now.Seconds(), p.name, fmt.Sprintf(format, args...))
}

func (s *sim) start(name string, rank int, options map[string]string) {
	s.starts++
	p := &proc{name: name, id: fmt.Sprint(s.starts), coupled: map[string]*stream{}, candidate: NewCandidate(time.Duration(rank)*quantum, s.set.Lease)}
	p.hello = Hello{Run: s.set.Run, Worker: name, Rank: rank, Address: name, Binary: "v1", ConfigHash: "c", Facts: []Fact{{"optim.lr", "0.1"}, {"data", "d1"}}}
	for i := range p.hello.Facts {
		if v, ok := options[p.hello.Facts[i].Field]; ok {
			p.hello.Facts[i].Value = v
		}
	}
	if v, ok := options["binary"]; ok {
		p.hello.Binary = v
	}
	if v, ok := options["run"]; ok {
		p.hello.Run = v
	}
	p.loadHash = options["state"]
	s.procs[name] = p
	var first []Action
	log, err := ReadLog(s.fs, ".")
	if err != nil {
		s.t.Fatal(err)
	}
	p.worker, first = NewWorker(s.set, s.now, name, p.id, log.Last() != nil)
	s.worker(p, first)
	s.drain()
}

// advance lets time pass.
func (s *sim) advance(d time.Duration) {
	for end := s.now + d; s.now < end; {
		s.now += quantum
		for _, name := range slices.Sorted(maps.Keys(s.procs)) {
			s.tick(s.procs[name])
			s.drain()
		}
	}
}

func (s *sim) tick(p *proc) {
	if p.dead || p.frozen {
		return
	}
	s.office(p)
	if p.boss != nil {
		s.boss(p, p.boss.Step(s.now, Tick{}))
	}
	if p.seeking && !p.dead {
		s.seek(p)
	}
	if !p.dead {
		s.worker(p, p.worker.Step(s.now, Tick{}))
	}
}

// office takes, renews or gives up the lease.
func (s *sim) office(p *proc) {
	if p.lease != nil {
		if err := p.lease.Renew(s.now); err != nil {
			s.depose(p, err)
		}
		return
	}
	record, err := ReadLease(s.fs, ".")
	if err != nil {
		s.t.Fatal(err)
	}
	if !p.candidate.Due(s.now, record) {
		return
	}
	lease, err := Acquire(s.fs, ".", s.now, record, Record{Run: s.set.Run, Holder: p.name + "-" + p.id, Address: p.name, TTL: s.set.Lease})
	if errors.Is(err, ErrHeld) {
		return
	}
	if err != nil {
		s.t.Fatal(err)
	}
	log, err := ReadLog(s.fs, ".")
	if err != nil {
		s.t.Fatal(err)
	}
	p.lease, p.boss = lease, NewCoordinator(s.set, s.now, lease.Term(), log, &p.hello)
	if p.yielded {
		p.boss.Keep()
	}
	s.printf(p, "coordinator of term %d", lease.Term())
}

func (s *sim) depose(p *proc, err error) {
	s.printf(p, "no longer coordinator: %v", err)
	p.lease, p.boss = nil, nil
	for _, id := range slices.Sorted(maps.Keys(p.coupled)) {
		s.close(p.coupled[id], p)
	}
}

// seek offers the worker the coordinator that the lease names.
func (s *sim) seek(p *proc) {
	record, err := ReadLease(s.fs, ".")
	if err != nil {
		s.t.Fatal(err)
	}
	if record.Address != "" && !record.Released {
		s.worker(p, p.worker.Step(s.now, Found{Term: record.Term, Address: record.Address}))
	}
}

// deliver runs f in a process, when it can.
func (s *sim) deliver(p *proc, f func()) {
	s.queue = append(s.queue, func() {
		switch {
		case p.dead:
		case p.frozen:
			p.inbox = append(p.inbox, f)
		default:
			f()
		}
	})
}

func (s *sim) drain() {
	for len(s.queue) > 0 {
		f := s.queue[0]
		s.queue = s.queue[1:]
		f()
	}
}

// worker does what a worker wants.
func (s *sim) worker(p *proc, actions []Action) {
	for _, a := range actions {
		if p.dead {
			return
		}
		switch a := a.(type) {
		case Seek:
			p.seeking = true
		case Connect:
			p.seeking = false
			s.connect(p, a)
		case Join:
			hello := p.hello
			hello.Incarnation, hello.Checkpoints = a.Incarnation, s.saved
			s.toBoss(p, &Message{Kind: KindJoin, Term: a.Term, Hello: &hello})
		case Send:
			s.toBoss(p, a.Message)
		case Acknowledge:
			if !p.stuck {
				s.toBoss(p, &Message{Kind: KindAck, Term: p.worker.linkTerm, Generation: a.Generation, Checkpoints: s.saved})
			}
		case Hangup:
			s.close(p.link, p)
		case Train:
			s.train(p, a)
		case Release:
			p.released = true
			s.printf(p, "trains as rank %d of %d from step %d", s.rank(p), len(p.worker.plan.Members), p.step)
		case Abort:
			s.printf(p, "aborts generation %d: %s", a.Generation, a.Reason)
			s.ended(p, OutcomeAborted, a.Reason)
		case Finish:
			s.ended(p, OutcomeStopped, "stopped with a checkpoint saved")
		case Say:
			s.say(p, a)
		case End:
			s.exit(p, a)
		}
	}
}

func (s *sim) say(p *proc, a Say) {
	if a.Warning {
		a.Text = "warning: " + a.Text
	}
	s.printf(p, "%s", a.Text)
}

func (s *sim) rank(p *proc) int { return p.worker.plan.Rank(p.worker.self) }

func (s *sim) train(p *proc, a Train) {
	p.step, p.released = max(a.Resume, 0), false
	hash := fmt.Sprintf("state%d", p.step)
	if p.loadHash != "" {
		hash = p.loadHash
	}
	s.deliver(p, func() {
		s.worker(p, p.worker.Step(s.now, Loaded{Generation: a.Plan.Number, Step: p.step, Hash: hash}))
	})
}

// ended is how training returns.
func (s *sim) ended(p *proc, outcome Outcome, reason string) {
	generation := p.worker.Generation()
	s.deliver(p, func() {
		p.released = false
		s.worker(p, p.worker.Step(s.now, Trained{Generation: generation, Outcome: outcome, Reason: reason}))
	})
}

func (s *sim) exit(p *proc, a End) {
	s.printf(p, "exits with %d: %s", a.Code, a.Reason)
	if p.lease != nil {
		_ = p.lease.Release()
	}
	s.kill(p)
}

// kill ends a process; the system closes its streams.
func (s *sim) kill(p *proc) {
	p.dead, p.lease, p.boss, p.released = true, nil, nil, false
	s.close(p.link, p)
	for _, id := range slices.Sorted(maps.Keys(p.coupled)) {
		s.close(p.coupled[id], p)
	}
}

func (s *sim) apart(a, b *proc) bool { return s.cut[a.name] != s.cut[b.name] }

func (s *sim) connect(p *proc, a Connect) {
	boss := s.procs[a.Address]
	if boss == nil || boss.dead || s.apart(p, boss) {
		s.deliver(p, func() { s.worker(p, p.worker.Step(s.now, Lost{Reason: "cannot connect"})) })
		return
	}
	p.link = &stream{worker: p, boss: boss}
	s.deliver(p, func() { s.worker(p, p.worker.Step(s.now, Connected{Term: a.Term})) })
}

// toBoss sends a message on a worker's stream.
func (s *sim) toBoss(p *proc, m *Message) {
	link := p.link
	if link == nil || link.shut || s.apart(p, link.boss) {
		return
	}
	if m.Kind == KindJoin {
		link.id = m.Hello.Incarnation
	}
	id := link.id
	s.deliver(link.boss, func() {
		switch {
		case link.closed:
		case link.boss.boss == nil || link.boss.lease.Term() != m.Term:
			s.close(link, link.boss)
		default:
			link.boss.coupled[id] = link
			s.boss(link.boss, link.boss.boss.Step(s.now, Received{From: id, Message: m}))
		}
	})
}

// close ends a stream; the other end notices, unless a partition hides it.
func (s *sim) close(link *stream, by *proc) {
	if link == nil || link.shut {
		return
	}
	link.shut = true
	delete(link.boss.coupled, link.id)
	if link.worker.link == link && by == link.worker {
		link.worker.link = nil
	}
	s.queue = append(s.queue, func() { link.closed = true }) // after what was sent
	if s.apart(link.worker, link.boss) {
		return
	}
	if by == link.worker {
		s.deliver(link.boss, func() {
			if link.boss.boss != nil {
				s.boss(link.boss, link.boss.boss.Step(s.now, Lost{Who: link.id, Reason: "closed its connection"}))
			}
		})
		return
	}
	s.deliver(link.worker, func() {
		if link.worker.link == link {
			link.worker.link = nil
			s.worker(link.worker, link.worker.worker.Step(s.now, Lost{Reason: "closed"}))
		}
	})
}

// boss does what a coordinator wants.
func (s *sim) boss(p *proc, actions []Action) {
	for _, a := range actions {
		if p.boss == nil {
			return
		}
		switch a := a.(type) {
		case Persist:
			e, err := Commit(s.fs, ".", p.lease, a.Plan)
			if err != nil {
				s.depose(p, err)
				return
			}
			p.yielded = false
			s.boss(p, p.boss.Step(s.now, e))
		case Yield:
			_ = p.lease.Release()
			p.yielded, p.candidate = true, NewCandidate(s.set.Abstain, s.set.Lease)
			s.depose(p, errors.New(a.Reason))
			return
		case Send:
			s.toWorker(p, a)
		case Hangup:
			s.close(p.coupled[a.Who], p)
		case Say:
			s.say(p, a)
		case End:
			// The process ends with its own worker, which has been told.
		}
	}
}

func (s *sim) toWorker(p *proc, a Send) {
	link := p.coupled[a.To]
	if link == nil || link.shut || s.apart(p, link.worker) {
		return
	}
	s.deliver(link.worker, func() {
		if !link.closed {
			s.worker(link.worker, link.worker.worker.Step(s.now, Received{Message: a.Message}))
		}
	})
}
