package term

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"jambalaya/internal/human"
)

// Options describe a progress bar.
type Options struct {
	Label string // what is going on: "train"
	Start int64  // where this process starts from: the step it resumed
	Total int64
	// Format writes positions; nil for plain numbers.
	Format func(int64) string
	// Every is the time between plain lines; 0 for 10 seconds.
	Every time.Duration
}

// redraw is the least time between two drawings of a bar.
const redraw = 100 * time.Millisecond

// Progress shows how far a job is. Close it when the job ends, however it ends.
type Progress struct {
	opt    Options
	out    io.Writer
	width  func() int // columns of the terminal; 0 if the output is none
	colour bool
	now    func() time.Time

	mu      sync.Mutex
	started time.Time
	shown   time.Time // when the bar or line was last shown
	pending bool      // what is current has not been shown
	drawn   int       // columns of the bar on the screen
	done    int64
	fields  []string
	partial []byte // a line that Write has not seen the end of
	closed  bool
}

// NewProgress returns a Progress that shows itself on out.
func NewProgress(out *os.File, o Options) *Progress {
	width := func() int { return columns(out) }
	if os.Getenv("TERM") == "dumb" {
		width = func() int { return 0 }
	}
	return newProgress(out, o, width, os.Getenv("NO_COLOR") == "", time.Now)
}

func newProgress(out io.Writer, o Options, width func() int, colour bool, now func() time.Time) *Progress {
	if o.Format == nil {
		o.Format = func(n int64) string { return fmt.Sprint(n) }
	}
	if o.Every == 0 {
		o.Every = 10 * time.Second
	}
	return &Progress{opt: o, out: out, width: width, colour: colour, now: now, started: now(), done: o.Start}
}

// Set says that done of the total is done, and what to show beside that. It is
// cheap: most calls show nothing.
func (p *Progress) Set(done int64, fields ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	p.done, p.fields, p.pending = done, append(p.fields[:0], fields...), true
	wait := p.opt.Every
	if p.width() > 0 {
		wait = redraw
	}
	if now := p.now(); p.shown.IsZero() || now.Sub(p.shown) >= wait {
		p.show()
	}
}

// Restart says that the job goes on from another place, from which on the time left is
// reckoned.
func (p *Progress) Restart(done int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.opt.Start, p.done, p.started = done, done, p.now()
}

// Logf writes a line above the bar.
func (p *Progress) Logf(format string, args ...any) {
	fmt.Fprintf(p, format+"\n", args...)
}

// Write writes lines above the bar. An unfinished line waits for its end.
func (p *Progress) Write(text []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.partial = append(p.partial, text...)
	end := bytes.LastIndexByte(p.partial, '\n') + 1
	if p.closed {
		end = len(p.partial)
	}
	if end == 0 {
		return len(text), nil
	}
	lines := p.erase() + string(p.partial[:end])
	p.partial = append(p.partial[:0], p.partial[end:]...)
	if p.width() > 0 && !p.closed && !p.shown.IsZero() {
		lines += p.bar()
	}
	_, _ = io.WriteString(p.out, lines)
	return len(text), nil
}

// Close shows where the job ended and leaves the cursor below it. Later writes
// go straight to the output.
func (p *Progress) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	if p.pending {
		p.show()
	}
	if p.drawn > 0 {
		_, _ = io.WriteString(p.out, "\n")
	}
	if len(p.partial) > 0 {
		_, _ = p.out.Write(append(p.partial, '\n'))
	}
	p.partial, p.drawn, p.closed = nil, 0, true
}

// show draws the bar again, or writes a line.
func (p *Progress) show() {
	p.shown, p.pending = p.now(), false
	if p.width() > 0 {
		_, _ = io.WriteString(p.out, p.erase()+p.bar())
		return
	}
	_, _ = io.WriteString(p.out, strings.Join(p.texts(), "  ")+"\n")
}

// erase returns what takes the bar off the screen. A terminal that became
// narrower since has broken it into several lines.
func (p *Progress) erase() string {
	if p.drawn == 0 {
		return ""
	}
	up := ""
	if rows := (p.drawn - 1) / max(p.width(), 1); rows > 0 {
		up = fmt.Sprintf("\x1b[%dA", rows)
	}
	p.drawn = 0
	return up + "\r\x1b[J"
}

const (
	minBar = 8
	maxBar = 40
)

// bar returns the bar as it is to be drawn now, and notes its size.
func (p *Progress) bar() string {
	room := p.width() - 3 // for the ^C that the terminal writes, and not to wrap
	texts := p.texts()
	for len(texts) > 2 && size(texts) > room {
		keep := len(texts) - 1
		if keep > 2 { // the time left stays longer than the fields
			texts[keep-1] = texts[keep]
		}
		texts = texts[:keep]
	}
	label, rest := texts[0], strings.Join(texts[1:], "  ")
	cells := min(maxBar, room-size(texts)-2)
	if cells < minBar {
		line := []rune(label + "  " + rest)
		line = line[:min(len(line), max(room, 0))]
		p.drawn = len(line)
		return string(line)
	}
	full := min(cells, max(0, int(p.fraction()*float64(cells))))
	p.drawn = size(texts) + 2 + cells
	on, off := strings.Repeat("━", full), strings.Repeat("─", cells-full)
	if p.colour {
		on, off = "\x1b[32m"+on+"\x1b[0m", "\x1b[2m"+off+"\x1b[0m"
	}
	return label + "  " + on + off + "  " + rest
}

// size is the number of columns of texts with two blanks between them.
func size(texts []string) int {
	n := 2 * (len(texts) - 1)
	for _, t := range texts {
		n += utf8.RuneCountInString(t)
	}
	return n
}

// texts returns the label, the position, the fields and the time left.
func (p *Progress) texts() []string {
	position := fmt.Sprintf("%s/%s %d%%", p.opt.Format(p.done), p.opt.Format(p.opt.Total), int(100*p.fraction()))
	texts := append([]string{p.opt.Label, position}, p.fields...)
	elapsed := p.now().Sub(p.started)
	switch done := p.done - p.opt.Start; {
	case p.done >= p.opt.Total:
		texts = append(texts, "in "+human.Duration(elapsed))
	case done > 0:
		left := float64(elapsed) / float64(done) * float64(p.opt.Total-p.done)
		texts = append(texts, human.Duration(time.Duration(left))+" left")
	}
	return texts
}

func (p *Progress) fraction() float64 {
	if p.opt.Total <= 0 {
		return 1
	}
	return float64(p.done) / float64(p.opt.Total)
}
