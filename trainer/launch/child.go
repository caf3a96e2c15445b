package launch

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"jambalaya/internal/cli"
)

// child is a worker on this machine, through all its starts.
type child struct {
	index   int
	deaths  int   // in a row
	reached int64 // step of the run when the first of them came
	began   time.Time

	mu    sync.Mutex
	cmd   *exec.Cmd
	state *os.ProcessState // how it ended
	err   error            // why it could not be started
	last  string           // of what it wrote as its error
}

// threadsEach shares the processors out.
func threadsEach(procs int) int { return max(1, runtime.GOMAXPROCS(0)/procs) }

// start starts a worker, and reports it to run when it has ended.
func (l *launcher) start(c *child) error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := exec.Command(exe, l.arguments()...)
	cmd.Env = l.environment(c)
	ownGroup(cmd)
	// Nothing is written there: its end tells the worker that the launcher is gone.
	alive, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	errs, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("worker %d: %w", l.rank(c), err)
	}
	l.view.printf("worker %d: process %d", l.rank(c), cmd.Process.Pid)
	c.cmd, c.began, c.state, c.err, c.last = cmd, time.Now(), nil, nil, ""
	var read sync.WaitGroup
	read.Go(func() { l.relay(c, out, false) })
	read.Go(func() { l.relay(c, errs, true) })
	go func() {
		read.Wait()
		_ = cmd.Wait() // the state says how it ended
		alive.Close()
		c.mu.Lock()
		c.state = cmd.ProcessState
		c.mu.Unlock()
		l.report(c)
	}()
	return nil
}

// errorPrefix begins the line that a command writes when it fails.
const errorPrefix = "train: "

// relay writes what a worker says, with its rank before each line. The line for which
// it ends is kept for who judges that.
func (l *launcher) relay(c *child, r io.Reader, isError bool) {
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := lines.ReadSlice('\n')
		text := strings.TrimRight(string(line), "\r\n")
		switch {
		case isError && strings.HasPrefix(text, errorPrefix):
			c.mu.Lock()
			c.last = strings.TrimPrefix(text, errorPrefix)
			c.mu.Unlock()
		case text != "":
			l.view.printf("[%d] %s", l.rank(c), text)
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return
		}
	}
}

// outcome is the exit code of a worker that has ended, -1 for a signal, and how that
// reads.
func (c *child) outcome() (int, string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return cli.Code(c.err), c.err.Error()
	}
	if code := c.state.ExitCode(); code >= 0 {
		return code, fmt.Sprintf("ended with exit code %d", code)
	}
	return -1, "was ended by " + c.state.String()
}

// said is the error that the worker wrote.
func (c *child) said() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *child) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.err = err
}

// signalAll passes a signal on to all workers that run.
func (l *launcher) signalAll(s os.Signal) {
	for _, c := range l.children {
		c.mu.Lock()
		if c.cmd != nil && c.state == nil {
			_ = c.cmd.Process.Signal(s) // it may have ended meanwhile
		}
		c.mu.Unlock()
	}
}

// killAll is the end of a launcher that could not start all workers.
func (l *launcher) killAll() { l.signalAll(os.Kill) }
