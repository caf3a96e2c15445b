package chaos

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// The floods, each of a child process.
const (
	floodConnections = "connections" // of strangers, without end; a thousand are kept open
	floodResets      = "resets"      // streams, reset at once, by a watcher
	floodBytes       = "bytes"       // frames of one byte, by a watcher
)

const (
	floodHeld = 1000 // connections that a flood keeps open
	floodLow  = 10   // nice: the machine is the attacker's too
)

// flooded trains while others flood the coordinator's process. The attacker uses the same
// machine, and maybe others do: times with and without a flood take turns, and of each
// the best counts. The processor's time that a step costs the process under attack is
// said, too.
func flooded(ctx context.Context, l *lab) (result, error) {
	g, err := l.startGuardedWith(ctx, slices.Concat(larger, set("trainer.eval_every=1000000"))...)
	if err != nil {
		return result{}, err
	}
	defer g.stopAll()
	pid, err := g.pid(g.boss)
	if err != nil {
		return result{}, err
	}
	phase := time.Duration(l.reps(3, 12)) * time.Second
	memory, err := rss(pid)
	if err != nil {
		return result{}, err
	}
	peak := memory
	figure, worst, slept := "", 0.0, l.awake.slept()
	for _, kind := range []string{floodConnections, floodResets, floodBytes} {
		loud, quiet, count, err := g.flood(ctx, kind, phase, l.reps(2, 5), pid)
		if err != nil {
			return result{figure: figure}, fmt.Errorf("%s: %w", kind, err)
		}
		ratio := loud.clock / quiet.clock
		peak, worst = max(peak, loud.memory), max(worst, ratio)
		figure += fmt.Sprintf("%d %s %.3f x (processor's time %.2f x), ", count, kind, ratio, loud.processor/quiet.processor)
	}
	grown := (peak - memory) >> 20
	figure += fmt.Sprintf("RSS +%d MiB", grown)
	if l.awake.slept() != slept { // that ends a generation, too
		return result{figure, worst <= 1.1 && grown <= 128}, nil
	}
	if err := g.undisturbed(ctx); err != nil {
		return result{figure: figure}, err
	}
	return result{figure + "; the run went on in its generation", worst <= 1.1 && grown <= 128}, nil
}

// stepCost is what a step costs.
type stepCost struct {
	clock     float64 // seconds
	processor float64 // seconds of the process that was looked at
	memory    int64   // bytes that it had at most
}

// best is the lower of two costs, but for the memory.
func (c stepCost) best(d stepCost) stepCost {
	if c.memory == 0 {
		return d
	}
	return stepCost{min(c.clock, d.clock), min(c.processor, d.processor), max(c.memory, d.memory)}
}

// flood compares steps with and without a flood, in turns.
func (g *guarded) flood(ctx context.Context, kind string, phase time.Duration, turns, pid int) (loud, quiet stepCost, count int, err error) {
	for range turns {
		c, err := g.steps(ctx, phase, pid)
		if err != nil {
			return loud, quiet, count, err
		}
		quiet = quiet.best(c)
		p, err := g.l.startChild(ctx, kind, task{Dir: g.certs, Text: g.lease.Address})
		if err != nil {
			return loud, quiet, count, err
		}
		err = pause(ctx, time.Second/2)
		if err == nil {
			c, err = g.steps(ctx, phase, pid)
		}
		if err = errors.Join(err, p.signal(syscall.SIGTERM)); err != nil {
			return loud, quiet, count, errors.Join(err, p.kill())
		}
		loud = loud.best(c)
		if code := p.code(); code != 0 {
			return loud, quiet, count, fmt.Errorf("the flood ended with exit code %d: %s", code, p.lastLine())
		}
		var a answer
		if err := json.Unmarshal([]byte(p.out.String()), &a); err != nil {
			return loud, quiet, count, err
		}
		count += a.Done
	}
	return loud, quiet, count, nil
}

// steps is the mean cost of a step over a while.
func (g *guarded) steps(ctx context.Context, d time.Duration, pid int) (stepCost, error) {
	var c stepCost
	first, ok := g.last()
	if !ok {
		return c, errors.New("no line of metrics")
	}
	before, err := processor(pid)
	if err != nil {
		return c, err
	}
	for end := time.Now().Add(d); time.Now().Before(end); {
		if err := pause(ctx, 50*time.Millisecond); err != nil {
			return c, err
		}
		now, err := rss(pid)
		if err != nil {
			return c, err
		}
		c.memory = max(c.memory, now)
	}
	last, ok := g.last()
	if !ok || last.Step <= first.Step {
		return c, fmt.Errorf("no step within %v", d)
	}
	after, err := processor(pid)
	n := float64(last.Step - first.Step)
	c.clock, c.processor = (clock(last)-clock(first))/n, (after-before).Seconds()/n
	return c, err
}

// processor is the time that a process has had of the processors, where the system tells
// it, in hundredths of a second.
func processor(pid int) (time.Duration, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, errSkip{"needs /proc to measure the time of a process"}
	}
	_, after, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(after) // from the third on
	if len(fields) < 13 {
		return 0, errors.New("stat has no times")
	}
	var ticks time.Duration
	for _, f := range fields[11:13] {
		n, err := strconv.ParseInt(f, 10, 64)
		if err != nil {
			return 0, err
		}
		ticks += time.Duration(n)
	}
	return ticks * 10 * time.Millisecond, nil
}

// rss is the memory of a process, in bytes, where the system tells it.
func rss(pid int) (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, errSkip{"needs /proc to measure the memory of a process"}
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, errors.New("statm has no resident set")
	}
	pages, err := strconv.ParseInt(fields[1], 10, 64)
	return pages * int64(os.Getpagesize()), err
}

// flooder is a child that floods an address until it is told to stop, and answers how
// often it struck.
func flooder(kind string) func(task) (answer, error) {
	return func(t task) (answer, error) {
		lower(floodLow)
		ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer cancel()
		if kind == floodConnections {
			return answer{Done: connect(t.Text, ctx.Done())}, nil
		}
		config := shows((&guarded{certs: t.Dir}).load("watcher"))
		var a answer
		for {
			n, _ := strike(ctx, kind, t.Text, config)
			a.Done += n
			if pause(ctx, time.Millisecond) != nil {
				return a, nil
			} // hung up on: it comes again
		}
	}
}

// lower lowers the priority of this process, thread by thread; those to come inherit it.
func lower(nice int) {
	threads, _ := os.ReadDir("/proc/self/task") // none elsewhere: the figures are worse then
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			_ = syscall.Setpriority(syscall.PRIO_PROCESS, id, nice) // it may have ended
		}
	}
}

// connect opens connections that say little, and keeps the last of them.
func connect(address string, stop <-chan struct{}) int {
	var held []net.Conn
	defer func() {
		for _, c := range held {
			c.Close()
		}
	}()
	for n := 0; ; n++ {
		select {
		case <-stop:
			return n
		default:
		}
		c, err := net.DialTimeout("tcp", address, intrusionTime)
		if err != nil {
			time.Sleep(time.Millisecond)
			continue
		}
		if n%2 == 0 { // the beginning of a record that never ends
			_, _ = c.Write([]byte{22, 3, 1, 2, 0, 1})
		}
		if held = append(held, c); len(held) > floodHeld {
			held[0].Close()
			held = held[1:]
		}
	}
}

// strike makes one connection as a watcher and floods it, until it is hung up on.
func strike(ctx context.Context, kind, address string, config *tls.Config) (int, error) {
	raw, err := net.DialTimeout("tcp", address, intrusionTime)
	if err != nil {
		return 0, err
	}
	defer raw.Close()
	defer context.AfterFunc(ctx, func() { raw.Close() })() // a node that reads slowly keeps it waiting
	conn := tls.Client(raw, config)
	if _, err := conn.Write([]byte(http2.ClientPreface)); err != nil {
		return 0, err
	}
	framer := http2.NewFramer(conn, conn)
	go func() { // what is answered has to be read
		for {
			if _, err := framer.ReadFrame(); err != nil {
				return
			}
		}
	}()
	if err := framer.WriteSettings(); err != nil {
		return 0, err
	}
	var block bytes.Buffer
	encoder := hpack.NewEncoder(&block)
	open := func(stream uint32) error {
		block.Reset()
		for _, f := range [][2]string{{":method", "POST"}, {":scheme", "https"}, {":path", "/jambalaya.Control/Session"}, {":authority", "x"}, {"content-type", "application/grpc"}, {"te", "trailers"}} {
			if err := encoder.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
				return err
			}
		}
		return framer.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true})
	}
	if kind == floodBytes {
		if err := open(1); err != nil {
			return 0, err
		}
	}
	for n := 0; ; n++ {
		if kind == floodBytes {
			err = framer.WriteData(1, false, []byte{0})
		} else if err = open(uint32(2*n + 1)); err == nil {
			err = framer.WriteRSTStream(uint32(2*n+1), http2.ErrCodeCancel)
		}
		if err != nil {
			return n, err
		}
	}
}
