package cluster

import (
	"fmt"
	"maps"
	"slices"
)

// reported takes how far a member is.
func (c *Coordinator) reported(p *peer, r Report) {
	stepped := r.Step != p.report.Step
	p.report = r
	if r.Step > c.furthest {
		c.furthest, c.failures = r.Step, 0
	}
	if r.Saved > c.saved {
		c.saved = r.Saved
		if c.rejoin {
			c.stopped(fmt.Sprintf("more workers have joined, and step %d is saved", c.saved))
			return
		}
	}
	c.hangs()
	if stepped {
		p.fresh = true
		c.straggle(p)
		c.compareLinks()
	}
}

// grow remembers to make a larger world at the next checkpoint, if there is one for
// the workers that have joined.
func (c *Coordinator) grow() {
	mesh, ok := c.set.fit(len(c.pool))
	if c.rejoin = ok && mesh.Size() > c.plan.Mesh.Size(); c.rejoin {
		c.say("%d workers: a generation of %d follows at the next checkpoint", len(c.pool), mesh.Size())
	}
}

const (
	// slowReports in a row make a straggler: one slow step is chance.
	slowReports = 3
	// slowSeconds is what a step must take longer than the median to matter.
	slowSeconds = 0.05
)

// straggle compares a worker's time for a step with the median.
func (c *Coordinator) straggle(p *peer) {
	median, n := c.medianBusy()
	if n < 2 || p.report.Busy <= 0 || median <= 0 {
		return
	}
	ratio := p.report.Busy / median
	slow := ratio >= c.set.StragglerWarn && p.report.Busy-median >= slowSeconds
	if p.slowFor++; !slow {
		p.slowFor = 0
	}
	switch {
	case p.slowFor >= slowReports && !p.slow:
		p.slow = true
		c.warn("worker %s is a straggler: %.3g s for step %d, the median is %.3g s", p.hello.Worker, p.report.Busy, p.report.Step, median)
	case !slow && p.slow:
		p.slow = false
		c.say("worker %s keeps up again", p.hello.Worker)
	}
	if p.slow && ratio >= c.set.StragglerEvict && len(c.pool) > len(c.plan.Members) {
		id := p.hello.Incarnation
		c.do(Hangup{Who: id})
		c.lost(id, fmt.Sprintf("takes %.3g times the median step, and another worker is free", ratio))
	}
}

// medianBusy is the lower median, so that of two workers one can be slow.
func (c *Coordinator) medianBusy() (float64, int) {
	var times []float64
	for _, m := range c.plan.Members {
		if p := c.pool[m.Incarnation]; p != nil && p.report.Busy > 0 {
			times = append(times, p.report.Busy)
		}
	}
	if len(times) == 0 {
		return 0, 0
	}
	slices.Sort(times)
	return times[(len(times)-1)/2], len(times)
}

// completed ends the run when all members say that it is complete.
func (c *Coordinator) completed() {
	for _, m := range c.plan.Members {
		if p := c.pool[m.Incarnation]; p != nil && !p.done {
			return
		}
	}
	c.end(codeOK, "the run is complete")
}

// Status is how a run stands, for people and metrics.
type Status struct {
	Run        string         `json:"run"`
	Term       uint64         `json:"term"`
	Generation uint64         `json:"generation"`
	Phase      Phase          `json:"phase"`
	Mesh       Mesh           `json:"mesh"`
	Wanted     int            `json:"wanted"`
	Step       int64          `json:"step"`     // of the slowest member
	Steps      int64          `json:"steps"`    // of the run; 0: not known
	Saved      int64          `json:"saved"`    // step of the newest checkpoint, -1: none
	Failures   int            `json:"failures"` // in a row, without progress
	Fault      string         `json:"fault,omitempty"`
	Workers    []WorkerStatus `json:"workers"`
}

// WorkerStatus is how a worker stands.
type WorkerStatus struct {
	Worker    string  `json:"worker"`
	Rank      int     `json:"rank"` // -1: has joined, but is in no generation
	Straggler bool    `json:"straggler"`
	Silent    float64 `json:"silent"` // seconds since it was last heard of
	Report    Report  `json:"report"`
}

// Status returns how the run stands.
func (c *Coordinator) Status() Status {
	s := Status{Run: c.set.Run, Term: c.term, Phase: c.phase, Wanted: c.set.wanted(), Saved: c.saved, Failures: c.failures, Fault: c.lastFault}
	if c.plan != nil {
		s.Generation, s.Mesh = c.plan.Number, c.plan.Mesh
	}
	slowest := int64(-1)
	for _, id := range c.order() {
		p := c.pool[id]
		w := WorkerStatus{Worker: p.hello.Worker, Rank: -1, Straggler: p.slow || p.narrow, Silent: (c.now - p.heard).Seconds(), Report: p.report}
		if c.member(id) {
			w.Rank = c.plan.Rank(id)
			if slowest < 0 || p.report.Step < slowest {
				slowest = p.report.Step
			}
			s.Steps = max(s.Steps, p.report.Steps)
		}
		s.Workers = append(s.Workers, w)
	}
	s.Step = max(slowest, 0)
	slices.SortStableFunc(s.Workers, func(a, b WorkerStatus) int { return a.Rank - b.Rank })
	return s
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
