package cluster

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"jambalaya/internal/prng"
	"jambalaya/internal/vfs"
)

// TestLeaseHasOneTaker lets many processes take an expired lease at once, term after
// term, on a real directory.
func TestLeaseHasOneTaker(t *testing.T) {
	t.Parallel()
	dir, err := vfs.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	for term := uint64(1); term <= 50; term++ {
		record, err := ReadLease(dir, ".")
		if err != nil || record.Term != term-1 {
			t.Fatalf("term %d, %v; want %d", record.Term, err, term-1)
		}
		var wg sync.WaitGroup
		takers := make([]*Lease, 8)
		for i := range takers {
			wg.Go(func() {
				lease, err := Acquire(dir, ".", 0, record, Record{Holder: fmt.Sprint(i), TTL: time.Second})
				if err != nil && !errors.Is(err, ErrHeld) {
					t.Error(err)
				}
				takers[i] = lease
			})
		}
		wg.Wait()
		var holder *Lease
		for i, l := range takers {
			if l == nil {
				continue
			}
			if holder != nil {
				t.Fatalf("term %d: two holders", term)
			}
			holder = l
			if r, err := ReadLease(dir, "."); err != nil || r.Holder != fmt.Sprint(i) || r.Term != term {
				t.Fatalf("lease %+v, %v; held by %d", r, err, i)
			}
		}
		if holder == nil {
			t.Fatalf("term %d: no holder", term)
		}
	}
}

func TestLeaseExpires(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	mine := Record{Holder: "a", Address: "x", TTL: time.Second}
	old, err := Acquire(fs, ".", 0, Record{}, mine)
	if err != nil {
		t.Fatal(err)
	}
	var o Observer
	expired := func(now time.Duration) bool {
		r, err := ReadLease(fs, ".")
		if err != nil {
			t.Fatal(err)
		}
		return o.Expired(now, r, time.Second)
	}
	// The observer's clock is another one: it starts at an hour.
	if expired(time.Hour) || expired(time.Hour+900*time.Millisecond) {
		t.Error("expired before its time")
	}
	if err := old.Renew(900 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if expired(time.Hour+1100*time.Millisecond) || expired(time.Hour+2*time.Second) {
		t.Error("expired although it was renewed")
	}
	if !expired(time.Hour + 2200*time.Millisecond) {
		t.Error("not expired")
	}
	if !old.Valid(1800*time.Millisecond) || old.Valid(1900*time.Millisecond) {
		t.Error("the holder has another idea of when its lease ends")
	}
	record, _ := ReadLease(fs, ".")
	next, err := Acquire(fs, ".", 0, record, Record{Holder: "b", TTL: time.Second})
	if err != nil || next.Term() != 2 {
		t.Fatal(next, err)
	}
	// The old holder wakes up.
	if err := old.Renew(5 * time.Second); !errors.Is(err, ErrDeposed) {
		t.Errorf("the old holder renewed: %v", err)
	}
	if _, err := Commit(fs, ".", old, &Generation{Number: 1, Term: 1}); !errors.Is(err, ErrDeposed) {
		t.Errorf("the old holder recorded a generation: %v", err)
	}
	if log, _ := ReadLog(fs, "."); len(log.Entries) != 0 {
		t.Errorf("log %+v", log)
	}
	if err := next.Release(); err != nil {
		t.Fatal(err)
	}
	if !expired(time.Hour + 2200*time.Millisecond) {
		t.Error("a lease that was given back is still held")
	}
}

// TestTwoCoordinatorsOneLog lets an old and a new holder append at the same moments:
// after each of them has looked at the lease, which is the worst time. No number is
// accepted for both.
func TestTwoCoordinatorsOneLog(t *testing.T) {
	t.Parallel()
	dir, err := vfs.Dir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	const rounds = 200
	taken := map[uint64]uint64{} // term by number
	var mu sync.Mutex
	var wg sync.WaitGroup
	for term := uint64(7); term <= 8; term++ {
		wg.Go(func() {
			for number := uint64(1); number <= rounds; number++ {
				err := Append(dir, ".", &Generation{Number: number, Term: term})
				if errors.Is(err, ErrDeposed) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if other, ok := taken[number]; ok {
					t.Errorf("generation %d is used in term %d and in term %d", number, other, term)
				}
				taken[number] = term
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	log, err := ReadLog(dir, ".")
	if err != nil || log.Damaged != 0 {
		t.Fatal(err, log.Damaged)
	}
	seen := map[uint64]bool{}
	for _, g := range log.Entries {
		if seen[g.Number] {
			t.Errorf("generation %d stands twice", g.Number)
		}
		seen[g.Number] = true
	}
}

// TestLogSurvivesCrashes cuts the power at random moments: what was accepted is there,
// and no number can come again.
func TestLogSurvivesCrashes(t *testing.T) {
	t.Parallel()
	for seed := range uint64(100) {
		fs, r := vfs.NewMem(), prng.New(seed, "log")
		var accepted uint64
		for range 6 {
			stop := r.IntN(12)
			faulty := vfs.NewFaults(fs, vfs.FailFrom(stop, vfs.ErrKilled))
			log, err := ReadLog(fs, ".")
			if err != nil {
				t.Fatal(err)
			}
			if last := log.Last(); accepted > 0 && (last == nil || last.Number < accepted || log.Spent() < accepted) {
				t.Fatalf("seed %d: generation %d was accepted, the log ends with %+v", seed, accepted, last)
			}
			next := log.Spent() + 1
			if err := Append(faulty, ".", &Generation{Number: next, Term: 1}); err == nil {
				accepted = next
			}
			fs.Crash(r)
		}
	}
}

func TestFence(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	lease, err := Acquire(fs, ".", 0, Record{}, Record{TTL: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	fenced := func(generation, term uint64) {
		t.Helper()
		if err := Fence(fs, ".", generation, term); !errors.Is(err, ErrFenced) {
			t.Errorf("generation %d of term %d may publish: %v", generation, term, err)
		}
	}
	fenced(1, 1)
	if e, err := Commit(fs, ".", lease, &Generation{Number: 1, Term: 1}); err != nil || e != (Persisted{1}) {
		t.Fatal(e, err)
	}
	if err := Fence(fs, ".", 1, 1); err != nil {
		t.Error(err)
	}
	fenced(1, 2)
	fenced(2, 1)
	if _, err := Acquire(fs, ".", 0, Record{Term: 1}, Record{TTL: time.Second}); err != nil {
		t.Fatal(err)
	}
	fenced(1, 1)
}

func TestLogRefusesWhatWasNotWritten(t *testing.T) {
	t.Parallel()
	line := func(g Generation) string {
		fs := vfs.NewMem()
		if err := Append(fs, ".", &g); err != nil {
			t.Fatal(err)
		}
		text, err := vfs.ReadFile(fs, LogName, maxLog)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	one, two := line(Generation{Number: 1, Term: 1}), line(Generation{Number: 2, Term: 2})
	for name, c := range map[string]struct {
		text    string
		last    uint64
		spent   uint64
		damaged int
	}{
		"empty":          {"", 0, 0, 0},
		"whole":          {one + two, 2, 2, 0},
		"torn":           {one + two[:20], 1, 2, 1},
		"flipped":        {one + strings.Replace(two, `"term":2`, `"term":3`, 1), 1, 2, 1},
		"a stale term":   {two + line(Generation{Number: 3, Term: 1}), 2, 2, 0},
		"a number twice": {two + line(Generation{Number: 2, Term: 3}), 2, 2, 0},
		"noise":          {"\x00\x00\n\n" + one, 1, 1, 1},
	} {
		l := parseLog([]byte(c.text))
		last := uint64(0)
		if g := l.Last(); g != nil {
			last = g.Number
		}
		if last != c.last || l.Spent() != c.spent || l.Damaged != c.damaged {
			t.Errorf("%s: last %d, spent %d, %d damaged; want %d, %d, %d", name, last, l.Spent(), l.Damaged, c.last, c.spent, c.damaged)
		}
	}
}

// FuzzMessages feeds both machines what a peer could send.
func FuzzMessages(f *testing.F) {
	for _, m := range []Message{
		{Kind: KindJoin, Hello: &Hello{Run: "r", Incarnation: "w.1", Worker: "w"}},
		{Kind: KindAck, Generation: 1}, {Kind: KindReport, Report: &Report{Step: 3}},
		{Kind: KindGenerate, Term: 1, Plan: &Generation{Number: 1, Members: []Member{{Incarnation: "w-p.1"}}}},
	} {
		text, err := m.Encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := Decode(text)
		if err != nil {
			return
		}
		c := NewCoordinator(Defaults("r", Mesh{1, 1}), 0, 1, &Log{}, nil)
		for i := range time.Duration(3) {
			c.Step(i, Received{From: "w.1", Message: m})
		}
		w, _ := NewWorker(Defaults("r", Mesh{1, 1}), 0, "w", "p", false)
		w.Step(0, Found{Term: m.Term, Address: "a"})
		w.Step(0, Connected{Term: m.Term})
		w.Step(0, Received{Message: m})
	})
}

// TestNobodyComes: a coordinator that not even its own process's worker reaches, as when
// the machine slept, has nobody to end the run for. It gives the lease up.
func TestNobodyComes(t *testing.T) {
	t.Parallel()
	set := Defaults("r", Mesh{2, 1})
	c := NewCoordinator(set, 0, 1, &Log{}, nil)
	if actions := c.Step(set.JoinWindow-time.Second, Tick{}); len(actions) != 0 {
		t.Errorf("within the window: %v", actions)
	}
	actions := c.Step(2*set.JoinWindow, Tick{})
	if len(actions) != 1 {
		t.Fatalf("after the window: %v", actions)
	}
	if _, ok := actions[0].(Yield); !ok {
		t.Errorf("after the window: %#v", actions[0])
	}
}
