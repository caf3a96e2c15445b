package cluster

import "fmt"

// A worker whose network is slow keeps all others waiting, as long as itself: how long
// they are busy tells nothing. Who it is follows from the links. A link that messages
// were under way on for much of the step is slow; the worker that all slow links have in
// common, while others are fast, has the slow network.

const (
	// linkShare of a step, on a link, makes the link slow: without it the step would take
	// half the time.
	linkShare = 0.5
	// linkContrast is what a slow link takes of the slowest one, at least.
	linkContrast = 0.5
	// narrowSteps in a row make a straggler. What a link takes is summed up from all
	// messages of a step, and less due to chance than a duration.
	narrowSteps = 2
)

// link is what a member reports of a step: the slowest way to it.
type link struct {
	from, to int // ranks
	seconds  float64
}

// blame is whose network was slow, and for how many steps in a row. With from and to
// alike, it is that of a worker; else only the link between two is known.
type blame struct {
	from, to int
	steps    int
}

// compareLinks looks for a slow one when all members have taken a step.
func (c *Coordinator) compareLinks() {
	var links []link
	step := 0.0 // seconds
	for rank, m := range c.plan.Members {
		p := c.pool[m.Incarnation]
		if p == nil || !p.fresh {
			return
		}
		if r := p.report; r.From >= 0 && r.From < len(c.plan.Members) && r.From != rank {
			links = append(links, link{r.From, rank, r.Link})
		}
		step = max(step, p.report.Seconds)
	}
	for _, m := range c.plan.Members {
		c.pool[m.Incarnation].fresh = false
	}
	found, slowest := blameOf(links, len(c.plan.Members), step)
	switch {
	case slowest == 0:
		c.blamed = blame{}
	case c.blamed.from == found.from && c.blamed.to == found.to:
		c.blamed.steps++
	default:
		c.blamed = found
	}
	c.judge(slowest, step)
}

// blameOf finds the network that is slow, with how many seconds the slowest link takes of
// a step; 0 if none is.
func blameOf(links []link, members int, step float64) (blame, float64) {
	var slowest link
	for _, l := range links {
		if l.seconds > slowest.seconds {
			slowest = l
		}
	}
	if slowest.seconds < max(slowSeconds, linkShare*step) {
		return blame{}, 0
	}
	var common []int // of the ranks at the slowest link, those that all slow links touch
	for _, rank := range []int{slowest.from, slowest.to} {
		touches, slow := true, 0
		for _, l := range links {
			if l.seconds >= linkContrast*slowest.seconds {
				slow++
				touches = touches && (l.from == rank || l.to == rank)
			}
		}
		if touches && (members > 2 || slow < members) { // of two workers both touch all links
			common = append(common, rank)
		}
	}
	switch len(common) {
	case 0:
		return blame{}, 0 // the network of all is slow
	case 1:
		return blame{common[0], common[0], 1}, slowest.seconds
	}
	return blame{slowest.from, slowest.to, 1}, slowest.seconds
}

// judge warns about the network that is blamed, or says that a worker keeps up again.
func (c *Coordinator) judge(slowest, step float64) {
	b, members := c.blamed, c.plan.Members
	for rank, m := range members {
		p := c.pool[m.Incarnation]
		switch at := b.steps >= narrowSteps && rank == b.from && rank == b.to; {
		case at && !p.narrow:
			p.narrow = true
			c.warn("worker %s is a straggler: its network is slow: of %.3g s for step %d, messages were under way from or to it for %.3g s", m.Worker, step, p.report.Step, slowest)
		case p.narrow && !at:
			p.narrow = false
			c.say("worker %s keeps up again", m.Worker)
		}
	}
	if b.from != b.to {
		if b.steps == narrowSteps {
			c.warn("the network from worker %s to worker %s is slow: of %.3g s for a step, messages were under way for %.3g s", members[b.from].Worker, members[b.to].Worker, step, slowest)
		}
		return
	}
	if b.steps < narrowSteps || len(c.pool) <= len(members) {
		return
	}
	if without := step - slowest; step >= c.set.StragglerEvict*without {
		id := members[b.from].Incarnation
		c.blamed = blame{}
		c.do(Hangup{Who: id})
		c.lost(id, fmt.Sprintf("has a slow network, %.3g s of a step of %.3g s, and another worker is free", slowest, step))
	}
}
