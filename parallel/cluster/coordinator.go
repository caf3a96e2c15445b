package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Phase is what a coordinator is doing.
type Phase string

// The phases, in order; a failure leads back to the first.
const (
	PhaseGathering  Phase = "gathering"  // workers join
	PhasePersisting Phase = "persisting" // a generation is being recorded
	PhaseForming    Phase = "forming"    // published; members acknowledge
	PhaseMeeting    Phase = "meeting"    // members load the state and meet
	PhaseRunning    Phase = "running"
	PhaseEnded      Phase = "ended"
)

// Coordinator makes generations out of the workers that there are. It does nothing
// by itself: Step takes an event and returns what is to be done about it. It is for
// one goroutine.
type Coordinator struct {
	set  Settings
	term uint64
	now  time.Duration
	out  []Action

	phase    Phase
	spent    uint64      // no generation up to it may be used again
	plan     *Generation // being formed, or running
	resume   int64
	pool     map[string]*peer // by incarnation
	joins    int              // counts
	watchers map[string]bool

	deadline  time.Duration // of the phase; of the join window while gathering
	gathers   time.Duration // since when, while it does
	keeps     bool          // the lease, however few workers come: it has yielded before
	notBefore time.Duration // no generation is formed before
	beat      time.Duration // when the last beat was sent

	own       *Hello   // of the coordinator's process; nil: not known
	reference *Hello   // what all workers must equal
	refused   []string // for who asks why there are too few
	begun     bool     // a generation has run
	failures  int      // in a row, without progress
	furthest  int64    // step that any generation has reached
	saved     int64    // step of the newest checkpoint that a worker reported
	lastFault string
	rejoin    bool // for a larger world at the next checkpoint
	blamed    blame
	hung      int64 // step after which the generation was last said to stand still
}

// peer is a worker that has joined.
type peer struct {
	hello  *Hello
	order  int
	heard  time.Duration
	acked  bool
	ready  *Message // Ready, when it came
	done   bool
	report Report

	slowFor int  // reports in a row
	slow    bool // was warned about
	narrow  bool // so is its network
	fresh   bool // has taken a step since the links were compared
}

// NewCoordinator starts a coordinator, at a time, with the lease of a term, after
// the generations in a log. All workers must equal what its own process says of itself;
// where that is nil, the first to join.
func NewCoordinator(set Settings, now time.Duration, term uint64, log *Log, own *Hello) *Coordinator {
	c := &Coordinator{
		set: set, term: term, own: own, reference: own, now: now, phase: PhaseGathering, spent: log.Spent(),
		pool: map[string]*peer{}, watchers: map[string]bool{}, gathers: now, deadline: now + set.JoinWindow, beat: now, saved: -1, resume: -1,
	}
	if last := log.Last(); last != nil {
		c.plan, c.begun = last, true
	}
	return c
}

// Keep makes a coordinator keep the lease until it has made a generation: its process
// has yielded it, and nobody else wanted it.
func (c *Coordinator) Keep() { c.keeps = true }

// Step takes an event at a time, which never goes back, and returns what is to be
// done, in order.
func (c *Coordinator) Step(now time.Duration, e Event) []Action {
	c.now, c.out = max(now, c.now), nil
	if c.phase == PhaseEnded {
		return nil
	}
	switch e := e.(type) {
	case Received:
		c.received(e.From, e.Message)
	case Lost:
		delete(c.watchers, e.Who)
		c.lost(e.Who, e.Reason)
	case Suspected:
		c.suspected(e.Who)
	case Persisted:
		c.persisted(e.Generation)
	case Rejected:
		c.rejected(e.Spent)
	}
	c.passTime()
	return c.out
}

func (c *Coordinator) do(a ...Action) { c.out = append(c.out, a...) }

func (c *Coordinator) send(to string, m Message) {
	m.Term = c.term
	c.do(Send{To: to, Message: &m})
}

func (c *Coordinator) say(format string, args ...any) {
	c.do(Say{Text: fmt.Sprintf(format, args...)})
}

func (c *Coordinator) warn(format string, args ...any) {
	c.do(Say{Warning: true, Text: fmt.Sprintf(format, args...)})
}

// received handles a message of a worker.
func (c *Coordinator) received(from string, m *Message) {
	switch m.Kind {
	case KindWatch:
		c.watchers[from] = true
		return
	case KindJoin:
		c.join(from, m.Hello)
		return
	}
	p := c.pool[from]
	if p == nil {
		return // lost or refused before: its stream is being closed
	}
	p.heard = c.now
	current := c.plan != nil && m.Generation == c.plan.Number
	switch m.Kind {
	case KindAck:
		if current && c.phase == PhaseForming {
			p.acked, p.hello.Checkpoints = true, m.Checkpoints
			c.formed()
		}
	case KindReady:
		if current && c.phase == PhaseMeeting {
			p.ready = m
			c.met()
		}
	case KindReport:
		if current && c.phase == PhaseRunning {
			c.reported(p, *m.Report)
		}
	case KindFailed:
		if current && c.active() {
			c.notBefore = c.now + c.set.Settle
			c.fail(fmt.Sprintf("worker %s: %s", p.hello.Worker, m.Reason))
		}
	case KindStopped:
		if current && c.active() {
			c.stopped(fmt.Sprintf("worker %s has stopped: %s", p.hello.Worker, m.Reason))
		}
	case KindDone:
		if current && c.active() {
			p.done = true
			c.completed()
		}
	case KindLeave:
		c.leave(p, m)
	}
}

// active reports whether members are in the generation.
func (c *Coordinator) active() bool {
	return c.phase == PhaseForming || c.phase == PhaseMeeting || c.phase == PhaseRunning
}

// member reports whether an incarnation is in the generation that is made or runs.
func (c *Coordinator) member(incarnation string) bool {
	return c.phase != PhaseGathering && c.plan.Rank(incarnation) >= 0
}

// join takes a worker in, or refuses it.
func (c *Coordinator) join(from string, h *Hello) {
	if field, reason := c.unfit(h); field != "" {
		c.refuse(from, h, field, reason)
		return
	}
	for _, id := range c.order() {
		if c.pool[id].hello.Worker == h.Worker && id != from {
			// The process was started again before its end was noticed.
			c.do(Hangup{Who: id})
			c.lost(id, "was started again")
		}
	}
	if c.reference == nil {
		c.reference = h
	}
	c.joins++
	c.pool[from] = &peer{hello: h, order: c.joins, heard: c.now}
	if c.phase == PhaseRunning && len(c.pool) > c.plan.Mesh.Size() {
		c.grow()
	}
}

// unfit names the field for which a worker cannot be part of the run.
func (c *Coordinator) unfit(h *Hello) (field, reason string) {
	if h.Run != c.set.Run {
		return "run", fmt.Sprintf("it is of run %q, this is %q: compare --out, and that all machines share that directory", h.Run, c.set.Run)
	}
	ref := c.reference
	if ref == nil {
		return "", ""
	}
	differs := func(mine, theirs string) string {
		return fmt.Sprintf("%s, but %s has %s", quoted(mine), ref.Worker, quoted(theirs))
	}
	if h.Binary != ref.Binary {
		return "binary", differs(h.Binary, ref.Binary) + ": start all workers with the same build"
	}
	theirs := map[string]string{}
	for _, f := range ref.Facts {
		theirs[f.Field] = f.Value
	}
	for _, f := range h.Facts {
		value, known := theirs[f.Field]
		if !known {
			return f.Field, differs(f.Value, "no such key")
		}
		if value != f.Value {
			return f.Field, differs(f.Value, value)
		}
	}
	if h.ConfigHash != ref.ConfigHash {
		return "config", differs(h.ConfigHash, ref.ConfigHash)
	}
	return "", ""
}

func quoted(s string) string {
	if s == "" {
		return `""`
	}
	return s
}

func (c *Coordinator) refuse(from string, h *Hello, field, reason string) {
	c.send(from, Message{Kind: KindRefuse, Field: field, Reason: reason, Code: codeConfig})
	c.do(Hangup{Who: from})
	line := fmt.Sprintf("worker %s refused: %s: %s", h.Worker, field, reason)
	if !slices.Contains(c.refused, line) {
		c.refused = append(c.refused, line)
		c.warn("%s", line)
	}
}

// lost removes a worker.
func (c *Coordinator) lost(who, reason string) {
	p := c.pool[who]
	if p == nil {
		return
	}
	delete(c.pool, who)
	if len(c.pool) == 0 && !c.begun {
		c.reference = c.own
	}
	if !c.member(who) {
		return
	}
	if p.done {
		c.completed()
		return
	}
	c.fail(fmt.Sprintf("worker %s (rank %d) %s", p.hello.Worker, c.plan.Rank(who), reason))
}

// suspected uses advice by gossip: a worker that has not been heard of for half of
// its lease is not waited for longer.
func (c *Coordinator) suspected(who string) {
	if p := c.pool[who]; p != nil && c.now-p.heard >= c.set.Lease/2 {
		c.do(Hangup{Who: who})
		c.lost(who, "does not answer, and gossip says that it is dead")
	}
}

// leave removes a worker that says goodbye.
func (c *Coordinator) leave(p *peer, m *Message) {
	id := p.hello.Incarnation
	member := c.member(id)
	delete(c.pool, id)
	c.do(Hangup{Who: id})
	reason := fmt.Sprintf("worker %s has left: %s", p.hello.Worker, m.Reason)
	switch {
	case m.Code == codeFailure || m.Code == codeConfig:
		if m.Field != "" {
			reason = fmt.Sprintf("worker %s: %s: %s", p.hello.Worker, m.Field, m.Reason)
		} else {
			reason = fmt.Sprintf("worker %s: %s", p.hello.Worker, m.Reason)
		}
		c.end(m.Code, reason)
	case member && !p.done:
		c.stopped(reason)
	}
}

// order lists the pool in a fixed order: members by rank, then the others as they
// came.
func (c *Coordinator) order() []string {
	ids := slices.Collect(maps.Keys(c.pool))
	slices.SortFunc(ids, func(a, b string) int { return c.pool[a].order - c.pool[b].order })
	return ids
}

// fail ends the generation because something went wrong.
func (c *Coordinator) fail(reason string) {
	c.failures++
	c.lastFault = reason
	c.warn("generation %d ends: %s", c.plan.Number, reason)
	if c.failures > c.set.Restarts {
		c.end(codeFailure, fmt.Sprintf("%d generations in a row failed without a step of progress; the last: %s", c.failures, reason))
		return
	}
	if wait := c.set.backoff(c.failures); wait > 0 {
		c.say("waiting %v before the next generation", wait)
		c.notBefore = max(c.notBefore, c.now+wait)
	}
	c.abort(reason)
}

// stopped ends the generation because a worker was asked to stop.
func (c *Coordinator) stopped(reason string) {
	c.say("generation %d ends: %s", c.plan.Number, reason)
	c.notBefore = c.now + c.set.Settle // others may be leaving too
	c.abort(reason)
}

// abort tells the members, and gathers workers again.
func (c *Coordinator) abort(reason string) {
	for _, id := range c.order() {
		if c.plan.Rank(id) >= 0 {
			p := c.pool[id]
			p.acked, p.ready, p.done, p.slow, p.narrow = false, nil, false, false, false
			c.send(id, Message{Kind: KindAbort, Generation: c.plan.Number, Reason: reason})
		}
	}
	c.phase, c.rejoin, c.keeps = PhaseGathering, false, false
	c.gathers, c.deadline = c.now, c.now+c.set.JoinWindow
}

// end ends the run for everybody.
func (c *Coordinator) end(code int, reason string) {
	for _, id := range c.order() {
		c.send(id, Message{Kind: KindEnd, Code: code, Reason: reason})
	}
	for _, id := range slices.Sorted(maps.Keys(c.watchers)) {
		c.send(id, Message{Kind: KindEnd, Code: code, Reason: reason})
	}
	c.phase = PhaseEnded
	c.do(End{Code: code, Reason: reason})
}

// present says how many workers there are after the join window, and who.
func (c *Coordinator) present() string {
	var names []string
	for _, id := range c.order() {
		names = append(names, c.pool[id].hello.Worker)
	}
	text := fmt.Sprintf("after %v, %d of %d workers have joined", c.set.JoinWindow, len(c.pool), c.set.wanted())
	if len(names) > 0 {
		text += " (" + strings.Join(names, ", ") + ")"
	}
	return text
}

// tooFew says who is missing, and why if that is known.
func (c *Coordinator) tooFew() string {
	text := fmt.Sprintf("too few workers: %s, %d are needed", c.present(), c.set.least())
	for _, r := range c.refused {
		text += "; " + r
	}
	return text
}
