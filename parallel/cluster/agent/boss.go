package agent

import (
	"errors"
	"fmt"

	"jambalaya/parallel/cluster"
	"jambalaya/parallel/rpc"
)

// serve is the other end of a session that a worker, or who watches, has opened.
func (a *agent) serve(s *rpc.Session) {
	first, err := receive(s)
	if err != nil || first.Kind != cluster.KindJoin && first.Kind != cluster.KindWatch {
		return
	}
	id := ""
	taken := make(chan bool, 1)
	a.post(func() {
		if a.boss == nil || first.Kind == cluster.KindJoin && first.Term != a.term {
			taken <- false
			return
		}
		if first.Kind == cluster.KindJoin {
			id = first.Hello.Incarnation
		} else {
			a.watchers++
			id = fmt.Sprintf("watcher %d", a.watchers)
		}
		if old := a.sessions[id]; old != nil {
			taken <- false // an incarnation joins once
			return
		}
		a.sessions[id] = s
		taken <- true
		a.bossStep(cluster.Received{From: id, Message: first})
	})
	select {
	case ok := <-taken:
		if !ok {
			return
		}
	case <-a.quit:
		return
	}
	for {
		m, err := receive(s)
		if err != nil {
			a.post(func() {
				if a.sessions[id] == s {
					delete(a.sessions, id)
					if a.ended == nil { // else this process has broken it, as it leaves
						a.bossStep(cluster.Lost{Who: id, Reason: "is gone: its connection broke"})
					}
				}
			})
			return
		}
		a.post(func() {
			if a.sessions[id] == s {
				a.bossStep(cluster.Received{From: id, Message: m})
			}
		})
	}
}

// bossStep gives the coordinator, if this process is it, an event.
func (a *agent) bossStep(e cluster.Event) {
	if a.boss == nil {
		return
	}
	if a.finished > 0 && a.now()-a.finished >= a.opt.Settings.Lease {
		a.giveUp("it has ended the run for the workers it had, and this one was not among them")
		return
	}
	for _, action := range a.boss.Step(a.now(), e) {
		switch action := action.(type) {
		case cluster.Persist:
			a.yielded = false
			a.keeper.commit(a.term, action.Plan)
		case cluster.Yield:
			a.giveUp(action.Reason)
			return
		case cluster.Send:
			a.tell(action)
		case cluster.Hangup:
			if s := a.sessions[action.Who]; s != nil {
				delete(a.sessions, action.Who)
				go s.Close()
			}
		case cluster.Say:
			a.say(action)
		case cluster.End:
			// This process ends with its own worker, which is told as all others are, if it
			// is with the coordinator at the moment.
			a.finished = a.now()
		}
	}
}

// giveUp leaves the lease to others.
func (a *agent) giveUp(reason string) {
	a.yielded = true
	a.keeper.yield(a.term)
	a.depose(errors.New(reason))
}

func (a *agent) tell(send cluster.Send) {
	s := a.sessions[send.To]
	if s == nil {
		return
	}
	text, err := send.Message.Encode()
	if err != nil {
		a.opt.Say(true, err.Error())
		return
	}
	_ = s.Send(text) // if it fails, the session ends
}

// appoint makes this process the coordinator, in place of the one before, "" if there was
// none.
func (a *agent) appoint(term uint64, log *cluster.Log, before string) {
	if log.Damaged > 0 {
		a.opt.Say(true, fmt.Sprintf("%s has %d damaged lines; their numbers are not used again", cluster.LogName, log.Damaged))
	}
	if last := log.Last(); last != nil {
		if before == "" {
			before = "one that is not known"
		}
		a.opt.Say(false, fmt.Sprintf("worker %s coordinates from now on, in term %d, in place of %s: generation %d was the last, the next begins when the workers have joined", a.opt.Hello.Worker, term, before, last.Number))
	}
	a.term, a.finished = term, 0
	a.boss = cluster.NewCoordinator(a.opt.Settings, a.now(), term, log, &a.opt.Hello)
	if a.yielded {
		a.boss.Keep()
	}
}

// depose ends that.
func (a *agent) depose(reason error) {
	if a.boss == nil {
		return
	}
	a.opt.Say(true, fmt.Sprintf("worker %s no longer coordinates: %v; it makes no more generations, and joins the next coordinator as a worker", a.opt.Hello.Worker, reason))
	a.boss = nil
	for id, s := range a.sessions {
		delete(a.sessions, id)
		go s.Close()
	}
}
