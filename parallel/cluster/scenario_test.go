package cluster

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var rewrite = flag.Bool("rewrite", false, "write what the scenarios print into testdata")

// TestScenarios runs the scripts in testdata. A script is blocks of commands, the
// line "----", and what they print:
//
//	settings wanted=N [least=N] [key=value...]   comes first
//	start NAME... [field=value...]               processes; the digits of a name are its rank
//	run DURATION                                 lets time pass
//	steps N                                      all that train take N steps
//	save                                         rank 0 of each generation publishes a checkpoint
//	slow NAME FACTOR | fast NAME                 how long its steps take
//	kill | freeze | thaw | stop | stick NAME     stick: it acknowledges nothing
//	fail NAME REASON | done NAME...              how its training ends
//	cut NAME... / heal                           the network between those and the others
//	damage                                       a torn line at the end of the log
//	log | status
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			got := runScript(t, string(text))
			if got == string(text) {
				return
			}
			if *rewrite {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			t.Errorf("%s differs; compare after -rewrite. It is now:\n%s", file, got)
		})
	}
}

// runScript returns the script with what its commands print now.
func runScript(t *testing.T, text string) string {
	var out strings.Builder
	s := &script{}
	for block := range strings.SplitSeq(strings.TrimSpace(text), "\n\n") {
		commands, _, _ := strings.Cut(block, "\n----")
		if out.Len() > 0 {
			out.WriteString("\n")
		}
		out.WriteString(commands + "\n")
		if comment(commands) {
			continue
		}
		for line := range strings.SplitSeq(commands, "\n") {
			if !strings.HasPrefix(line, "#") {
				s.command(t, strings.Fields(line))
			}
		}
		out.WriteString("----\n" + s.sim.text.String())
		s.sim.text.Reset()
	}
	return out.String()
}

// comment reports whether a block has no commands.
func comment(block string) bool {
	for line := range strings.SplitSeq(block, "\n") {
		if !strings.HasPrefix(line, "#") {
			return false
		}
	}
	return true
}

type script struct {
	sim  *sim
	slow map[string]float64
}

func (c *script) command(t *testing.T, words []string) {
	t.Helper()
	verb, args := words[0], words[1:]
	options := map[string]string{}
	var names []string
	for _, a := range args {
		if k, v, ok := strings.Cut(a, "="); ok {
			options[k] = v
		} else {
			names = append(names, a)
		}
	}
	if verb == "settings" {
		c.sim, c.slow = newSim(t, settings(t, options)), map[string]float64{}
		return
	}
	switch verb {
	case "start":
		for _, name := range names {
			rank, err := strconv.Atoi(strings.TrimLeft(name, "abcdefghijklmnopqrstuvwxyz"))
			if err != nil {
				t.Fatal(err)
			}
			c.sim.start(name, rank, options)
		}
	case "run":
		c.sim.advance(duration(t, names[0]))
	case "slow":
		f, err := strconv.ParseFloat(names[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		c.slow[names[0]] = f
	case "fast":
		delete(c.slow, names[0])
	case "steps":
		n, err := strconv.Atoi(names[0])
		if err != nil {
			t.Fatal(err)
		}
		c.steps(n)
	case "save":
		c.save()
	case "log", "status":
		c.show(t, verb)
	default:
		c.fault(t, verb, names)
	}
	c.sim.drain()
}

// fault is what happens to processes and networks.
func (c *script) fault(t *testing.T, verb string, names []string) {
	s := c.sim
	if verb == "cut" || verb == "heal" {
		clear(s.cut)
		for _, name := range names {
			s.cut[name] = 1
		}
		return
	}
	if verb == "damage" {
		c.damage(t)
		return
	}
	p := s.procs[names[0]]
	switch verb {
	case "kill":
		s.kill(p)
	case "freeze":
		p.frozen = true
	case "thaw":
		p.frozen = false
		if p.released {
			c.publish(p) // the first thing that it does when it wakes
		}
		s.tick(p)
		for _, f := range p.inbox {
			s.deliver(p, f)
		}
		p.inbox = nil
	case "stop":
		s.worker(p, p.worker.Step(s.now, Stop{}))
	case "stick":
		p.stuck = true
	case "fail":
		s.ended(p, OutcomeAborted, strings.Join(names[1:], " "))
	case "done":
		for _, name := range names {
			s.ended(s.procs[name], OutcomeDone, "")
		}
	default:
		t.Fatalf("unknown command %q", verb)
	}
}

func (c *script) damage(t *testing.T) {
	f, err := c.sim.fs.Append(LogName)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("00000000 {\"generation\":")); err != nil {
		t.Fatal(err)
	}
}

// steps lets all that train go on.
func (c *script) steps(n int) {
	for range n {
		for _, p := range c.training() {
			p.step++
			busy := 0.1
			if f, ok := c.slow[p.name]; ok {
				busy *= f
			}
			report := Report{Step: p.step, Busy: busy, Seconds: busy, Saved: c.savedStep()}
			c.sim.worker(p, p.worker.Step(c.sim.now, Progress{Report: report}))
		}
		c.sim.advance(c.sim.set.Heartbeat)
	}
}

func (c *script) training() []*proc {
	var list []*proc
	for _, name := range slices.Sorted(maps.Keys(c.sim.procs)) {
		if p := c.sim.procs[name]; p.released && !p.dead && !p.frozen {
			list = append(list, p)
		}
	}
	return list
}

func (c *script) savedStep() int64 {
	if n := len(c.sim.saved); n > 0 {
		return c.sim.saved[n-1].Step
	}
	return -1
}

func (c *script) save() {
	for _, p := range c.training() {
		c.publish(p)
	}
}

// publish is what rank 0 does with a checkpoint: ask the fence, then commit.
func (c *script) publish(p *proc) {
	s := c.sim
	plan := p.worker.plan
	if plan == nil || s.rank(p) != 0 {
		return
	}
	if err := Fence(s.fs, ".", plan.Number, plan.Term); err != nil {
		s.printf(p, "may not publish step %d: %v", p.step, err)
		return
	}
	s.saved = append(s.saved, Checkpoint{Step: p.step, Hash: fmt.Sprintf("h%d", p.step)})
	s.printf(p, "publishes step %d in generation %d", p.step, plan.Number)
}

func (c *script) show(t *testing.T, what string) {
	s := c.sim
	if what == "log" {
		log, err := ReadLog(s.fs, ".")
		if err != nil {
			t.Fatal(err)
		}
		for _, g := range log.Entries {
			fmt.Fprintf(&s.text, "generation %d, term %d, %d x %d: %s\n", g.Number, g.Term, g.Mesh.Data, g.Mesh.Expert, workers(&g))
		}
		if log.Damaged > 0 {
			fmt.Fprintf(&s.text, "%d damaged lines\n", log.Damaged)
		}
		return
	}
	for _, name := range slices.Sorted(maps.Keys(s.procs)) {
		p := s.procs[name]
		if p.boss == nil || p.dead {
			continue
		}
		status := p.boss.Status()
		fmt.Fprintf(&s.text, "term %d, generation %d, %s, step %d, saved %d, %d failures\n", status.Term, status.Generation, status.Phase, status.Step, status.Saved, status.Failures)
		for _, w := range status.Workers {
			fmt.Fprintf(&s.text, "  %s rank %d step %d straggler %v\n", w.Worker, w.Rank, w.Report.Step, w.Straggler)
		}
	}
}

func settings(t *testing.T, options map[string]string) Settings {
	number := func(key string, standard int) int {
		if options[key] == "" {
			return standard
		}
		n, err := strconv.Atoi(options[key])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	wanted := number("wanted", 2)
	set := Defaults("run", Mesh{Data: wanted, Expert: 1})
	for n := wanted - 1; n >= number("least", wanted); n-- {
		set.Meshes = append(set.Meshes, Mesh{Data: n, Expert: 1})
	}
	set.Restarts = number("restarts", set.Restarts)
	if v := options["window"]; v != "" {
		set.JoinWindow = duration(t, v)
	}
	return set
}

func duration(t *testing.T, s string) time.Duration {
	d, err := time.ParseDuration(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestTheCoordinatorDecides: who differs from the coordinator's process is refused, even
// if it joins before that process has.
func TestTheCoordinatorDecides(t *testing.T) {
	t.Parallel()
	hello := func(worker, rate string) *Hello {
		return &Hello{Run: "run", Worker: worker, Incarnation: worker + "-p.1", Facts: []Fact{{Field: "optim.lr", Value: rate}}, ConfigHash: rate}
	}
	c := NewCoordinator(Defaults("run", Mesh{Data: 2, Expert: 1}), 0, 1, &Log{}, hello("0", "0.1"))
	for _, h := range []*Hello{hello("1", "0.5"), hello("0", "0.1")} {
		var refused *Message
		for _, a := range c.Step(time.Second, Received{From: h.Incarnation, Message: &Message{Kind: KindJoin, Term: 1, Hello: h}}) {
			if s, ok := a.(Send); ok && s.Message.Kind == KindRefuse {
				refused = s.Message
			}
		}
		switch {
		case h.Worker == "0" && refused != nil:
			t.Errorf("the coordinator's own worker is refused: %s: %s", refused.Field, refused.Reason)
		case h.Worker == "1" && (refused == nil || refused.Field != "optim.lr" || refused.Reason != "0.5, but 0 has 0.1"):
			t.Errorf("another configuration: %+v", refused)
		}
	}
}
