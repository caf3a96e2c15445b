package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

// process is a started command. Its output goes to a file of the work directory and
// is kept to be looked at.
type process struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
	end  time.Time // once done
}

// start starts a command; its context ending kills it.
func (l *lab) start(ctx context.Context, binary string, args ...string) (*process, error) {
	return l.startWith(ctx, nil, binary, args...)
}

// startWith lets the caller change the command before it starts.
func (l *lab) startWith(ctx context.Context, change func(*exec.Cmd), binary string, args ...string) (*process, error) {
	dir, err := l.place("output")
	if err != nil {
		return nil, err
	}
	l.count++
	file, err := os.Create(filepath.Join(dir, fmt.Sprintf("%05d.txt", l.count)))
	if err != nil {
		return nil, err
	}
	fmt.Fprintf(file, "%s $ %s %s\n", time.Now().UTC().Format(time.RFC3339Nano), binary, strings.Join(args, " "))
	p := &process{cmd: exec.CommandContext(ctx, binary, args...), out: newOutput(file), done: make(chan struct{})}
	p.cmd.Dir = l.dir
	p.cmd.Stdout, p.cmd.Stderr = p.out, p.out
	p.cmd.WaitDelay = 10 * time.Second
	if change != nil {
		change(p.cmd)
	}
	if err := p.cmd.Start(); err != nil {
		file.Close()
		return nil, err
	}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	_ = p.cmd.Wait() // its state says how it ended
	p.end = time.Now()
	fmt.Fprintf(p.out.file, "%s %s\n", p.end.UTC().Format(time.RFC3339Nano), p.cmd.ProcessState)
	p.out.file.Close()
	close(p.done)
}

// code is the exit code of a process that has ended; -1 if a signal ended it.
func (p *process) code() int {
	<-p.done
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(s os.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// kill ends a process at once and waits for its end.
func (p *process) kill() error {
	err := p.signal(os.Kill)
	<-p.done
	return err
}

// await waits until the process has printed a text. Its end before that, and a
// minute without it, are errors.
func (p *process) await(ctx context.Context, text string) error {
	patience := time.After(time.Minute)
	for {
		has, change := p.out.has(text)
		if has {
			return nil
		}
		select {
		case <-change:
		case <-p.done:
			if has, _ := p.out.has(text); has {
				return nil
			}
			return fmt.Errorf("the process ended (%s) without saying %q: %s", p.cmd.ProcessState, text, p.lastLine())
		case <-patience:
			return fmt.Errorf("the process did not say %q within a minute", text)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// lastLine is what the process said last.
func (p *process) lastLine() string {
	lines := strings.Split(strings.TrimSpace(p.out.String()), "\n")
	return lines[len(lines)-1]
}

// complete runs a command to its end, which must be the given exit code.
func (l *lab) complete(ctx context.Context, code int, args ...string) (*process, error) {
	p, err := l.start(ctx, l.train, args...)
	if err != nil {
		return nil, err
	}
	if p.code() != code {
		return p, fmt.Errorf("%s, not exit code %d: %s", p.cmd.ProcessState, code, p.lastLine())
	}
	return p, ctx.Err()
}

var resumedFrom = regexp.MustCompile(`resumed from step ([0-9]+)`)

// resumed is the step that a process said it goes on from, -1 if it started anew.
func (p *process) resumed() int64 {
	m := resumedFrom.FindStringSubmatch(p.out.String())
	if m == nil {
		return -1
	}
	var step int64
	if _, err := fmt.Sscan(m[1], &step); err != nil {
		return -1
	}
	return step
}

// output collects what a process prints.
type output struct {
	file *os.File

	mu     sync.Mutex
	text   bytes.Buffer
	lines  []line
	change chan struct{} // closed, and replaced, when there is more
}

func newOutput(file *os.File) *output { return &output{file: file, change: make(chan struct{})} }

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.text.Write(b)
	for text := range bytes.Lines(b) {
		o.lines = append(o.lines, line{time.Now(), string(text)})
	}
	close(o.change)
	o.change = make(chan struct{})
	return o.file.Write(b)
}

func (o *output) has(text string) (bool, <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Contains(o.text.Bytes(), []byte(text)), o.change
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
