package cluster

import (
	"fmt"
	"strings"
	"time"
)

// Worker is the part of the protocol that a process that trains has. Like a
// Coordinator, it does nothing by itself, and is for one goroutine.
type Worker struct {
	set   Settings
	now   time.Duration
	out   []Action
	name  string
	base  string // of its incarnations
	self  string // incarnation of the latest join
	joins int

	term      uint64 // highest that was heard of
	link      linkState
	linkTerm  uint64        // of the coordinator that link is with
	since     time.Duration // when the worker was last with a coordinator
	mourned   uint64        // term whose coordinator was said to be gone
	heard     time.Duration
	sent      time.Duration
	ever      bool // was with a coordinator
	begun     bool // the run had, before this worker
	newest    uint64
	plan      *Generation // this worker is a member of; nil: waits for one
	waiting   bool        // to acknowledge plan, until training has ended
	training  uint64      // generation that Train runs for, 0: none
	told      bool        // the coordinator wanted training to end
	report    Report
	stopping  bool
	done      bool
	ending    *End // once training has returned
	announced time.Duration
}

type linkState int

const (
	linkNone linkState = iota
	linkOpening
	linkOpen
)

// NewWorker returns a worker, named as in Hello, and what it does first. process is
// unique to this start of the worker's process. begun says that the run has had a
// generation before.
func NewWorker(set Settings, now time.Duration, name, process string, begun bool) (*Worker, []Action) {
	w := &Worker{set: set, now: now, name: name, base: name + "-" + process, since: now, begun: begun}
	return w, []Action{Seek{}}
}

// Step takes an event at a time, which never goes back, and returns what is to be
// done, in order. After End there is nothing.
func (w *Worker) Step(now time.Duration, e Event) []Action {
	w.now, w.out = max(now, w.now), nil
	switch e := e.(type) {
	case Found:
		w.found(e)
	case Connected:
		if w.link == linkOpening && e.Term == w.linkTerm {
			w.link, w.heard, w.sent, w.ever = linkOpen, w.now, w.now, true
			w.joins++
			w.self = fmt.Sprintf("%s.%d", w.base, w.joins)
			w.do(Join{Term: e.Term, Incarnation: w.self})
			if w.training != 0 {
				// The new incarnation is in no generation yet.
				w.abort("the worker has joined anew")
			}
		}
	case Lost:
		w.lost(e.Reason)
	case Received:
		w.received(e.Message)
	case Loaded:
		if e.Generation == w.training {
			w.send(Message{Kind: KindReady, Generation: e.Generation, Step: e.Step, Hash: e.Hash})
		}
	case Progress:
		w.report = e.Report
	case Trained:
		if e.Generation == w.training {
			w.trained(e)
		}
	case Stop:
		w.stop()
	}
	w.passTime()
	return w.out
}

// Generation returns the number of the generation that this worker trains in, 0 for
// none.
func (w *Worker) Generation() uint64 { return w.training }

func (w *Worker) do(a ...Action) { w.out = append(w.out, a...) }

// send sends to the coordinator, if there is one. What it misses it asks for again
// when the worker joins.
func (w *Worker) send(m Message) {
	if w.link != linkOpen {
		return
	}
	m.Term = w.linkTerm
	w.sent = w.now
	w.do(Send{Message: &m})
}

// found connects to a coordinator, unless a newer one is known.
func (w *Worker) found(e Found) {
	if e.Term < w.term || w.link != linkNone && e.Term == w.linkTerm {
		return
	}
	w.term = e.Term
	if w.link != linkNone {
		w.do(Hangup{})
	}
	if w.link == linkOpen {
		w.do(Say{Warning: true, Text: fmt.Sprintf("worker %s leaves the coordinator of term %d, which is replaced, and joins that of term %d at %s", w.name, w.linkTerm, e.Term, e.Address)})
	}
	w.unplan()
	w.link, w.linkTerm = linkOpening, e.Term
	w.do(Connect(e))
}

// lost looks for a coordinator again. Until it has joined one, training goes on.
func (w *Worker) lost(reason string) {
	if w.link == linkOpen {
		w.since = w.now
		w.bereaved(reason)
	}
	w.link = linkNone
	w.unplan()
	w.do(Seek{})
}

// bereaved says once a term that the coordinator is gone, and what comes of it, unless
// this worker is about to end anyway.
func (w *Worker) bereaved(reason string) {
	if w.mourned == w.linkTerm || w.stopping || w.done || w.ending != nil {
		return
	}
	w.mourned = w.linkTerm
	place := ""
	if w.newest != 0 {
		place = fmt.Sprintf(", in generation %d", w.newest)
	}
	w.do(Say{Warning: true, Text: fmt.Sprintf("worker %s has lost the coordinator of term %d%s: %s; it joins the next generation, of this coordinator or its successor, and stops after %v without one",
		w.name, w.linkTerm, place, reason, w.set.JoinWindow)})
}

// unplan forgets a generation that has not begun to train: a coordinator that does
// not hear of it makes another.
func (w *Worker) unplan() {
	if w.training == 0 || w.waiting {
		w.plan, w.waiting = nil, false
	}
}

func (w *Worker) received(m *Message) {
	if w.link != linkOpen || m.Term != w.linkTerm {
		return
	}
	w.heard = w.now
	ours := w.plan != nil && m.Generation == w.plan.Number
	switch m.Kind {
	case KindRefuse:
		w.end(m.Code, fmt.Sprintf("worker %s was refused: %s: %s", w.name, m.Field, m.Reason))
	case KindGenerate:
		w.generate(m.Plan)
	case KindResume:
		if ours && !w.waiting && w.training == 0 {
			w.begin(m.Step)
		}
	case KindGo:
		if ours && w.training == m.Generation {
			w.do(Release{Generation: m.Generation})
		}
	case KindAbort:
		if w.training != 0 && w.training == m.Generation {
			w.abort(m.Reason)
		}
		if ours {
			w.plan, w.waiting = nil, false
		}
	case KindEnd:
		w.end(m.Code, m.Reason)
	}
}

// generate makes the worker a member of a generation, which must be newer than all
// that it knows.
func (w *Worker) generate(g *Generation) {
	if g.Rank(w.self) < 0 {
		return // it is for the incarnation that this worker was
	}
	if g.Number <= w.newest {
		w.do(Say{Warning: true, Text: fmt.Sprintf("generation %d refused: generation %d is known", g.Number, w.newest)})
		return
	}
	w.newest, w.plan, w.waiting = g.Number, g, w.training != 0
	if w.waiting {
		w.abort(fmt.Sprintf("generation %d replaces it", g.Number))
		return
	}
	w.do(Acknowledge{Generation: g.Number})
}

// begin trains as the rank that the generation gives to this worker.
func (w *Worker) begin(resume int64) {
	w.training, w.told = w.plan.Number, false
	w.report = Report{Saved: -1}
	w.do(Train{Plan: w.plan, Rank: w.plan.Rank(w.self), Resume: resume})
}

func (w *Worker) abort(reason string) {
	if !w.told {
		w.told = true
		w.do(Abort{Generation: w.training, Reason: reason})
	}
}

// end ends the worker, when training has returned.
func (w *Worker) end(code int, reason string) {
	if w.ending == nil {
		w.ending = &End{Code: code, Reason: reason}
	}
	if w.training != 0 {
		w.abort(reason)
		return
	}
	w.do(*w.ending)
}

func (w *Worker) trained(e Trained) {
	w.training = 0
	switch {
	case e.Outcome == OutcomeDone:
		w.done, w.announced = true, w.now
		w.send(Message{Kind: KindDone, Generation: e.Generation})
	case e.Outcome == OutcomeFailed:
		w.send(Message{Kind: KindLeave, Generation: e.Generation, Code: e.Code, Field: e.Field, Reason: e.Reason})
		w.ending = &End{Code: e.Code, Reason: e.Reason}
	case w.stopping:
		w.quit(e.Reason)
	case e.Outcome == OutcomeStopped:
		w.send(Message{Kind: KindStopped, Generation: e.Generation, Reason: e.Reason})
	case !w.told:
		w.send(Message{Kind: KindFailed, Generation: e.Generation, Reason: e.Reason})
	}
	if w.ending != nil {
		w.do(*w.ending)
		return
	}
	if w.waiting {
		w.waiting = false
		w.do(Acknowledge{Generation: w.plan.Number})
		return
	}
	if w.plan != nil && w.plan.Number == e.Generation {
		w.plan = nil
	}
}

func (w *Worker) stop() {
	if w.stopping || w.ending != nil {
		return
	}
	w.stopping = true
	switch {
	case w.training != 0:
		w.do(Finish{})
	case !w.done:
		w.quit("asked to stop")
		w.do(*w.ending)
	}
}

// quit says goodbye.
func (w *Worker) quit(reason string) {
	w.send(Message{Kind: KindLeave, Generation: w.newest, Code: codeRetry, Reason: reason})
	w.ending = &End{Code: codeRetry, Reason: reason}
}

// passTime does what is due.
func (w *Worker) passTime() {
	if w.ending != nil {
		return
	}
	switch w.link {
	case linkOpen:
		if w.now-w.heard >= w.set.Lease {
			w.do(Hangup{})
			w.lost(fmt.Sprintf("not heard of for %v", w.set.Lease))
			return
		}
		if w.now-w.sent >= w.set.Heartbeat {
			report := w.report
			w.send(Message{Kind: KindReport, Generation: w.training, Report: &report})
		}
		if w.done && w.now-w.announced >= w.set.AckTimeout {
			w.end(codeOK, "the run is complete")
		}
	case linkNone, linkOpening:
		if w.done && w.now-w.since >= w.set.Lease {
			w.end(codeOK, "the run is complete")
			return
		}
		if alone := w.now - w.since; alone >= w.set.JoinWindow {
			w.end(w.lonely())
		}
	}
}

// lonely is the end of a worker that finds no coordinator.
func (w *Worker) lonely() (int, string) {
	switch {
	case !w.ever && w.begun:
		return codeRetry, fmt.Sprintf("worker %s has reached no coordinator within %v, but the run has had one: this side may be cut off", w.name, w.set.JoinWindow)
	case !w.ever:
		return codeConfig, fmt.Sprintf("worker %s has found no coordinator within %v", w.name, w.set.JoinWindow)
	}
	return codeRetry, fmt.Sprintf("worker %s has been without a coordinator for %v: this side may be cut off, and must not go on", w.name, w.set.JoinWindow)
}

// Term returns the highest term that the worker has heard of.
func (w *Worker) Term() uint64 { return w.term }

// ProcessOf returns the part of an incarnation that names the worker and the start of
// its process.
func ProcessOf(incarnation string) string {
	if i := strings.LastIndexByte(incarnation, '.'); i >= 0 {
		return incarnation[:i]
	}
	return incarnation
}
