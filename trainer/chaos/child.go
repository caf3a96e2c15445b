package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// childVariable makes a process that calls Child one of the functions below; the value
// is its name, a space, and its task as JSON.
const childVariable = "JAMBALAYA_CHAOS_CHILD"

// task is what a child has to do.
type task struct {
	Dir   string // with a complete run in run/ and its data in cache/
	Seed  uint64
	Count int
	Text  string // an address
}

// answer is what a child found.
type answer struct {
	Done   int      // inputs read
	Bad    []string // what went wrong, a line each
	Figure string
	Claims []claim // of a contender
}

var children = map[string]func(task) (answer, error){
	"mutations": readMutations,
	"bombs":     readBombs,
	"names":     openNames,
	"contender": contend,

	floodConnections: flooder(floodConnections),
	floodResets:      flooder(floodResets),
	floodBytes:       flooder(floodBytes),
}

// Child does the work of a child process of a row, if this process is one, and exits.
// A command that runs rows calls it first.
func Child() {
	name, text, ok := strings.Cut(os.Getenv(childVariable), " ")
	if !ok {
		return
	}
	var t task
	err := json.Unmarshal([]byte(text), &t)
	var a answer
	if err == nil {
		a, err = children[name](t)
	}
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(a)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child runs one and returns its answer and the most memory it had, in bytes. That it
// crashes is an error.
func (l *lab) child(ctx context.Context, name string, t task) (answer, int64, error) {
	p, err := l.startChild(ctx, name, t)
	if err != nil {
		return answer{}, 0, err
	}
	if code := p.code(); code != 0 {
		return answer{}, 0, fmt.Errorf("the reading process crashed: %s: %s", p.cmd.ProcessState, firstLine(p.out.String()))
	}
	var a answer
	if err := json.Unmarshal([]byte(p.out.String()), &a); err != nil {
		return a, 0, fmt.Errorf("answer of the reading process: %w", err)
	}
	return a, maxMemory(p.cmd.ProcessState.SysUsage()), nil
}

// startChild starts a child without waiting for it.
func (l *lab) startChild(ctx context.Context, name string, t task) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(t)
	if err != nil {
		return nil, err
	}
	return l.startWith(ctx, func(c *exec.Cmd) {
		c.Env = append(os.Environ(), childVariable+"="+name+" "+string(text))
	}, self)
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(text), "\n")
	return line
}

// maxMemory is the peak of the resident set, where the system tells it in KiB.
func maxMemory(usage any) int64 {
	if u, ok := usage.(*syscall.Rusage); ok {
		return int64(u.Maxrss) << 10
	}
	return 0
}
