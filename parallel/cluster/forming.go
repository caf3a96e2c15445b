package cluster

import (
	"fmt"
	"slices"
	"strings"
)

// passTime does what is due.
func (c *Coordinator) passTime() {
	if c.phase == PhaseEnded {
		return
	}
	for _, id := range c.order() {
		if p := c.pool[id]; p != nil && c.now-p.heard >= c.set.Lease {
			c.do(Hangup{Who: id})
			c.lost(id, fmt.Sprintf("has not been heard of for %v", c.set.Lease))
			if c.phase == PhaseEnded {
				return
			}
		}
	}
	if c.now-c.beat >= c.set.Heartbeat {
		c.beat = c.now
		c.beats()
	}
	switch c.phase {
	case PhaseGathering:
		c.gather()
	case PhaseForming:
		if c.now >= c.deadline {
			c.unanswered("has not acknowledged it within "+c.set.AckTimeout.String(), func(p *peer) bool { return p.acked })
		}
	case PhaseMeeting:
		if c.now >= c.deadline {
			c.unanswered("was not ready within "+c.set.BarrierTimeout.String(), func(p *peer) bool { return p.ready != nil })
		}
	}
}

// beats tells workers that the coordinator lives, and who watches how things are.
func (c *Coordinator) beats() {
	for _, id := range c.order() {
		c.send(id, Message{Kind: KindBeat})
	}
	if len(c.watchers) == 0 {
		return
	}
	status := c.Status()
	for _, id := range sortedKeys(c.watchers) {
		c.send(id, Message{Kind: KindStatus, Status: &status})
	}
}

// gather forms a generation when all workers are there, or when those that are have
// to do.
func (c *Coordinator) gather() {
	if c.now < c.notBefore {
		return
	}
	if len(c.pool) >= c.set.wanted() {
		c.form(c.set.Meshes[0])
		return
	}
	if c.now < c.deadline {
		c.yield()
		return
	}
	if len(c.pool) == 0 { // not even this process's own worker, which would end with the run
		c.phase = PhaseEnded
		c.do(Yield{Reason: fmt.Sprintf("nobody has come to it within %v", c.set.JoinWindow)})
		return
	}
	mesh, ok := c.set.fit(len(c.pool))
	if !ok {
		code := codeConfig
		if c.begun {
			code = codeRetry
		}
		c.end(code, c.tooFew())
		return
	}
	c.warn("%s: going on with %d", c.present(), mesh.Size())
	c.form(mesh)
}

// yield gives the lease up if the workers that do not come are more than those that do,
// and enough to train. If the network has fallen apart they are on the other side, where
// nobody else can take it; if they are dead, this process takes it again.
func (c *Coordinator) yield() {
	here, wanted := len(c.pool), c.set.wanted()
	away := wanted - here
	wait := min(c.set.Yield, c.set.JoinWindow/2)
	if c.keeps || !c.begun || away <= here || away < c.set.least() || c.now-c.gathers < wait {
		return
	}
	c.phase = PhaseEnded
	c.do(Yield{Reason: fmt.Sprintf("only %d of %d workers have come to it within %v, and the others may reach each other", here, wanted, wait)})
}

// form decides on a generation and has it recorded.
func (c *Coordinator) form(mesh Mesh) {
	ids := c.ranked(mesh.Size())
	c.spent++
	g := &Generation{Number: c.spent, Term: c.term, Run: c.set.Run, Mesh: mesh, ConfigHash: c.pool[ids[0]].hello.ConfigHash}
	for _, id := range ids {
		p := c.pool[id]
		p.acked, p.ready, p.done, p.slow, p.narrow, p.fresh, p.report = false, nil, false, false, false, false, Report{}
		g.Members = append(g.Members, Member{Worker: p.hello.Worker, Incarnation: id, Address: p.hello.Address})
	}
	c.plan, c.phase, c.deadline, c.hung = g, PhasePersisting, forever, -1
	c.do(Persist{Plan: g})
}

// ranked chooses n workers and orders them by rank. A worker keeps the rank it had,
// else it gets the one that its environment prefers, else what is left; those who
// had a rank, then those who came first, are preferred.
func (c *Coordinator) ranked(n int) []string {
	had := map[string]int{}
	if c.plan != nil {
		for rank, m := range c.plan.Members {
			had[m.Worker] = rank
		}
	}
	wish := func(id string) int {
		h := c.pool[id].hello
		if rank, ok := had[h.Worker]; ok && rank < n {
			return rank
		}
		return h.Rank
	}
	candidates := c.order()
	slices.SortStableFunc(candidates, func(a, b string) int {
		_, hadA := had[c.pool[a].hello.Worker]
		_, hadB := had[c.pool[b].hello.Worker]
		switch {
		case hadA == hadB:
			return 0
		case hadA:
			return -1
		}
		return 1
	})
	candidates = candidates[:n]
	ranked := make([]string, n)
	var rest []string
	for _, id := range candidates {
		if rank := wish(id); rank >= 0 && rank < n && ranked[rank] == "" {
			ranked[rank] = id
		} else {
			rest = append(rest, id)
		}
	}
	for rank := range ranked {
		if ranked[rank] == "" {
			ranked[rank], rest = rest[0], rest[1:]
		}
	}
	return ranked
}

// persisted publishes the generation.
func (c *Coordinator) persisted(number uint64) {
	if c.phase != PhasePersisting || c.plan.Number != number {
		return
	}
	for _, m := range c.plan.Members {
		if c.pool[m.Incarnation] == nil {
			c.fail(fmt.Sprintf("worker %s was lost before it began", m.Worker))
			return
		}
	}
	c.say("generation %d: %d workers (data %d x expert %d): %s", number, len(c.plan.Members), c.plan.Mesh.Data, c.plan.Mesh.Expert, workers(c.plan))
	c.phase, c.deadline = PhaseForming, c.now+c.set.AckTimeout
	for _, m := range c.plan.Members {
		c.send(m.Incarnation, Message{Kind: KindGenerate, Generation: number, Plan: c.plan})
	}
}

func workers(g *Generation) string {
	names := make([]string, len(g.Members))
	for i, m := range g.Members {
		names[i] = m.Worker
	}
	const most = 16
	if len(names) > most {
		return strings.Join(names[:most], " ") + " ..."
	}
	return strings.Join(names, " ")
}

// rejected forms the generation again, under a number that is free.
func (c *Coordinator) rejected(spent uint64) {
	c.spent = max(c.spent, spent)
	if c.phase == PhasePersisting {
		c.phase, c.deadline = PhaseGathering, c.now+c.set.JoinWindow
	}
}

// formed agrees on the step to resume from once all members have acknowledged.
func (c *Coordinator) formed() {
	for _, m := range c.plan.Members {
		if !c.pool[m.Incarnation].acked {
			return
		}
	}
	c.resume = c.newestCommon()
	c.saved = max(c.saved, c.resume)
	c.phase, c.deadline = PhaseMeeting, c.now+c.set.BarrierTimeout
	for _, m := range c.plan.Members {
		c.send(m.Incarnation, Message{Kind: KindResume, Generation: c.plan.Number, Step: c.resume})
	}
}

// newestCommon is the highest step that all members have the same checkpoint of.
func (c *Coordinator) newestCommon() int64 {
	count := map[Checkpoint]int{}
	best := int64(-1)
	for _, m := range c.plan.Members {
		for _, k := range c.pool[m.Incarnation].hello.Checkpoints {
			if count[k]++; count[k] == len(c.plan.Members) {
				best = max(best, k.Step)
			}
		}
	}
	for _, m := range c.plan.Members {
		for _, k := range c.pool[m.Incarnation].hello.Checkpoints {
			if k.Step > best {
				c.warn("checkpoint of step %d is not used: not all workers can read the one that %s has", k.Step, m.Worker)
				return best
			}
		}
	}
	return best
}

// met lets the members go once all have loaded the same state.
func (c *Coordinator) met() {
	first := c.pool[c.plan.Members[0].Incarnation].ready
	for _, m := range c.plan.Members {
		ready := c.pool[m.Incarnation].ready
		if ready == nil || first == nil {
			return
		}
		if ready.Step != first.Step || ready.Hash != first.Hash {
			c.fail(fmt.Sprintf("worker %s: state: it resumes from step %d with state %s, worker %s from step %d with %s",
				m.Worker, ready.Step, ready.Hash, c.plan.Members[0].Worker, first.Step, first.Hash))
			return
		}
	}
	if first.Step != c.resume && c.resume >= 0 {
		c.warn("checkpoint of step %d could not be used: resumed from step %d", c.resume, first.Step)
	}
	c.resume = first.Step
	c.phase, c.deadline, c.begun = PhaseRunning, forever, true
	for _, m := range c.plan.Members {
		c.send(m.Incarnation, Message{Kind: KindGo, Generation: c.plan.Number, Step: first.Step})
	}
}

// unanswered drops the members that have not answered in time.
func (c *Coordinator) unanswered(what string, answered func(*peer) bool) {
	for _, m := range c.plan.Members {
		if p := c.pool[m.Incarnation]; p != nil && !answered(p) {
			c.do(Hangup{Who: m.Incarnation})
			c.lost(m.Incarnation, what)
			return // the generation has ended; others get their chance in the next
		}
	}
}
