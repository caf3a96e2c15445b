package term

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// screen is as much of a terminal as a Progress needs: it wraps, and knows
// carriage return, erase below, cursor up and colours.
type screen struct {
	width int
	rows  [][]rune
	y, x  int
}

func (s *screen) Write(text []byte) (int, error) {
	runes := []rune(string(text))
	for i := 0; i < len(runes); i++ {
		switch r := runes[i]; r {
		case '\r':
			s.x = 0
		case '\n':
			s.x, s.y = 0, s.y+1
		case '\x1b':
			end := i + 2
			for runes[end] < 'A' {
				end++
			}
			n, _ := strconv.Atoi(string(runes[i+2 : end]))
			switch runes[end] {
			case 'A':
				s.y = max(0, s.y-n)
			case 'J':
				s.rows = s.rows[:min(len(s.rows), s.y+1)]
				if s.y < len(s.rows) {
					s.rows[s.y] = s.rows[s.y][:min(s.x, len(s.rows[s.y]))]
				}
			case 'm':
			default:
				panic(fmt.Sprintf("unknown escape %q", string(runes[i:end+1])))
			}
			i = end
		default:
			if s.x == s.width {
				s.x, s.y = 0, s.y+1
			}
			for len(s.rows) <= s.y {
				s.rows = append(s.rows, nil)
			}
			for len(s.rows[s.y]) <= s.x {
				s.rows[s.y] = append(s.rows[s.y], ' ')
			}
			s.rows[s.y][s.x] = r
			s.x++
		}
	}
	return len(text), nil
}

// resize breaks and joins lines as terminals do, if only one line is not blank.
func (s *screen) resize(width int) {
	last := s.rows[s.y]
	s.rows, s.width = s.rows[:s.y], width
	s.x = 0
	fmt.Fprint(s, string(last))
}

func (s *screen) String() string {
	var lines []string
	for _, row := range s.rows {
		lines = append(lines, strings.TrimRight(string(row), " "))
	}
	return strings.Join(lines, "\n")
}

// clock is a time that tests move.
type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

func onScreen(width int, o Options) (*Progress, *screen, *clock) {
	s, c := &screen{width: width}, &clock{time.Unix(0, 0)}
	return newProgress(s, o, func() int { return s.width }, true, c.now), s, c
}

func expect(t *testing.T, s *screen, want string) {
	t.Helper()
	if got := s.String(); got != want {
		t.Errorf("the screen shows\n%s\nwant\n%s", got, want)
	}
}

func TestBar(t *testing.T) {
	t.Parallel()
	p, s, c := onScreen(80, Options{Label: "train", Total: 400})
	p.Set(0, "loss 5.600")
	expect(t, s, "train  "+strings.Repeat("─", 40)+"  0/400 0%  loss 5.600")
	c.advance(time.Minute)
	p.Set(100, "loss 2.314", "21.4k tokens/s")
	expect(t, s, "train  ━━━━─────────────  100/400 25%  loss 2.314  21.4k tokens/s  3m00s left")
	p.Set(101, "too soon")
	p.Logf("saved %s", "step 100")
	if lines := strings.Split(s.String(), "\n"); len(lines) != 2 || lines[0] != "saved step 100" || !strings.Contains(lines[1], "101/400") {
		t.Errorf("the screen shows\n%s", s)
	}
	c.advance(time.Minute)
	p.Set(400, "loss 1.0")
	p.Close()
	fmt.Fprint(s, "next")
	expect(t, s, "saved step 100\ntrain  "+strings.Repeat("━", 36)+"  400/400 100%  loss 1.0  in 2m00s\nnext")
	p.Set(401)
	p.Close()
	p.Logf(" line")
	expect(t, s, "saved step 100\ntrain  "+strings.Repeat("━", 36)+"  400/400 100%  loss 1.0  in 2m00s\nnext line")
}

func TestNarrowTerminalsDropFields(t *testing.T) {
	t.Parallel()
	p, s, c := onScreen(80, Options{Label: "train", Total: 400})
	c.advance(time.Minute)
	for width, want := range map[int]string{
		62: "train  100/400 25%  loss 2.314  21.4k tokens/s  3m00s left",
		60: "train  ━━━──────────  100/400 25%  loss 2.314  3m00s left",
		45: "train  100/400 25%  loss 2.314  3m00s left",
		44: "train  ━━───────  100/400 25%  3m00s left",
		32: "train  ━━───────  100/400 25%",
		12: "train  10",
		1:  "",
	} {
		s.rows, s.y, s.x, s.width, p.drawn = nil, 0, 0, width, 0
		c.advance(time.Second)
		p.started = c.t.Add(-time.Minute)
		p.Set(100, "loss 2.314", "21.4k tokens/s")
		expect(t, s, want)
	}
}

func TestBarFollowsTheWidth(t *testing.T) {
	t.Parallel()
	p, s, c := onScreen(80, Options{Label: "train", Total: 400})
	p.Logf("a line above")
	for i, width := range []int{80, 33, 20, 100, 12, 80} {
		if i > 0 {
			s.resize(width)
		}
		c.advance(time.Second)
		p.Set(int64(100+i), "loss 2.314", "21.4k tokens/s")
		if lines := strings.Split(s.String(), "\n"); len(lines) != 2 || lines[0] != "a line above" {
			t.Fatalf("at width %d the screen shows\n%s", width, s)
		}
	}
}

func TestWritesAreNeverGarbled(t *testing.T) {
	t.Parallel()
	p, s, c := onScreen(70, Options{Label: "train", Total: 1000})
	var wg sync.WaitGroup
	wg.Add(1)
	go func() {
		defer wg.Done()
		for i := range 100 {
			fmt.Fprintf(p, "log %d is ", i)
			fmt.Fprintf(p, "in two parts\nand two lines\n")
		}
	}()
	for i := range int64(100) {
		p.mu.Lock()
		c.advance(time.Second)
		p.mu.Unlock()
		p.Set(i, "loss 1.0")
	}
	wg.Wait()
	fmt.Fprint(p, "unfinished")
	p.Close()
	lines := strings.Split(s.String(), "\n")
	if len(lines) != 202 {
		t.Fatalf("%d lines on the screen, want 202:\n%s", len(lines), s)
	}
	for i := range 100 {
		if lines[2*i] != fmt.Sprintf("log %d is in two parts", i) || lines[2*i+1] != "and two lines" {
			t.Errorf("lines %d: %q, %q", 2*i, lines[2*i], lines[2*i+1])
		}
	}
	if !strings.HasPrefix(lines[200], "train ") || lines[201] != "unfinished" {
		t.Errorf("the end is %q", lines[200:])
	}
}

func TestPlainLines(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	c := &clock{time.Unix(0, 0)}
	p := newProgress(&out, Options{Label: "shard", Start: 100, Total: 400, Every: 5 * time.Second, Format: func(n int64) string { return fmt.Sprint(n, " B") }},
		func() int { return 0 }, true, c.now)
	for i := range int64(11) {
		c.advance(time.Second)
		p.Set(100+10*i, "x")
	}
	p.Logf("a line")
	c.advance(time.Second)
	p.Set(211, "last")
	p.Close()
	want := `shard  100 B/400 B 25%  x
shard  150 B/400 B 37%  x  30s left
shard  200 B/400 B 50%  x  22s left
a line
shard  211 B/400 B 52%  last  20s left
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestColours(t *testing.T) {
	t.Parallel()
	for _, colour := range []bool{true, false} {
		var out bytes.Buffer
		p := newProgress(&out, Options{Label: "train", Total: 4}, func() int { return 80 }, colour, time.Now)
		p.Set(2)
		if got := strings.Contains(out.String(), "\x1b[32m"); got != colour {
			t.Errorf("colours %v: wrote %q", colour, out.String())
		}
	}
}

func TestFilesAreNoTerminals(t *testing.T) {
	t.Parallel()
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	p := NewProgress(f, Options{Label: "train", Total: 4})
	p.Set(4, "loss 1")
	p.Close()
	p.Close()
	got, err := os.ReadFile(f.Name())
	if err != nil || !strings.HasPrefix(string(got), "train  4/4 100%  loss 1  in 0.0s\n") || strings.Contains(string(got), "\x1b") {
		t.Errorf("%q %v", got, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}

func TestNothingToDo(t *testing.T) {
	t.Parallel()
	p, s, _ := onScreen(60, Options{Label: "shard"})
	p.Close()
	expect(t, s, "")
	p, s, _ = onScreen(60, Options{Label: "shard"})
	p.Set(0)
	p.Close()
	expect(t, s, "shard  "+strings.Repeat("━", 31)+"  0/0 100%  in 0.0s")
}

// TestStages: a bar a stage, each brought to its end before the next.
func TestStages(t *testing.T) {
	t.Parallel()
	f, err := os.Create(t.TempDir() + "/out")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := &Stages{Out: f}
	s.Set("first", 1, 2)
	s.Set("first", 2, 2)
	s.Set("second", 3, 3, "field")
	s.Close()
	s.Close()
	text, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	var last []string
	for line := range strings.Lines(string(text)) {
		last = append(last, strings.Join(strings.Fields(line)[:3], " "))
	}
	if want := []string{"first 1/2 50%", "first 2/2 100%", "second 3/3 100%"}; !slices.Equal(last, want) {
		t.Errorf("shown are %q, want %q", last, want)
	}
}
