package cluster

import (
	"fmt"
	"strings"
	"time"
)

// hangs says, once a standstill, who waits for whom if no member takes a step any more.
// Each of them prints its own stacks.
func (c *Coordinator) hangs() {
	if c.set.Hang == 0 {
		return
	}
	var waiting, absent []string // workers
	operation, shortest, furthest := "", 0.0, int64(0)
	for i, m := range c.plan.Members {
		p := c.pool[m.Incarnation]
		if p == nil || p.report.Still < c.set.Hang.Seconds() {
			return
		}
		if i == 0 || p.report.Still < shortest {
			shortest = p.report.Still
		}
		furthest = max(furthest, p.report.Step)
		if p.report.Operation == "" {
			absent = append(absent, m.Worker)
			continue
		}
		waiting = append(waiting, m.Worker)
		if operation == "" {
			operation = p.report.Operation
		}
	}
	if c.hung == furthest {
		return
	}
	c.hung = furthest
	since := time.Duration(shortest * float64(time.Second)).Round(time.Second)
	switch {
	case len(waiting) == 0:
		c.warn("no step for %v, and nobody waits for another: a step takes that long, or all do something else; their stacks say what", since)
	case len(absent) == 0:
		c.warn("no step for %v: all workers wait for each other, %s", since, c.operations())
	default:
		c.warn("no step for %v: %s is not answered by worker %s, which does something else (its stacks say what); waiting: %s", since, operation, strings.Join(absent, ", "), strings.Join(waiting, ", "))
	}
}

// operations lists what each member waits in.
func (c *Coordinator) operations() string {
	var list []string
	for _, m := range c.plan.Members {
		list = append(list, fmt.Sprintf("%s in %s", m.Worker, c.pool[m.Incarnation].report.Operation))
	}
	return strings.Join(list, ", ")
}
