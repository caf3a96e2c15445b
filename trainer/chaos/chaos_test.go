package chaos

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jambalaya/checkpoint"
	"jambalaya/internal/cli"
	"jambalaya/internal/prng"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
)

func TestRowsAreOnceEach(t *testing.T) {
	numbers := Numbers()
	if !slices.IsSorted(numbers) || len(slices.Compact(slices.Clone(numbers))) != len(numbers) {
		t.Errorf("rows %v", numbers)
	}
	err := Run(t.Context(), Options{Rows: []int{99}})
	if cli.Code(err) != cli.CodeConfig {
		t.Errorf("row 99: %v", err)
	}
}

// TestVerdicts: what a row returns becomes a line that says the same.
func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		res  result
		err  error
		want string
		says string
	}{
		{result{"3 of 3", true}, nil, Met, "3 of 3"},
		{result{"2 of 3", false}, nil, Missed, "2 of 3"},
		{result{"2 of 3", true}, errors.New("lost one"), Missed, "2 of 3; lost one"},
		{result{}, errors.New("lost one"), Missed, "lost one"},
		{result{}, errSkip{"no root"}, Skipped, "no root"},
	} {
		rep, err := runRow(t.Context(), &lab{}, row{number: 4, name: "n", target: "t", run: func(context.Context, *lab) (result, error) { return c.res, c.err }})
		if err != nil || rep.Verdict != c.want || rep.Figure != c.says {
			t.Errorf("%v, %v: got %+v, %v", c.res, c.err, rep, err)
		}
		for _, asJSON := range []bool{false, true} {
			var out bytes.Buffer
			if err := (printer{&out, asJSON}).line(rep); err != nil || !strings.Contains(out.String(), c.want) || strings.Count(out.String(), "\n") != 1 {
				t.Errorf("printed %q, %v", &out, err)
			}
		}
	}
}

// TestRetry: a row that missed runs again in a place of its own, as often as allowed.
func TestRetry(t *testing.T) {
	for _, c := range []struct {
		misses, retry int
		want          string
		lines         int
	}{{0, 2, Met, 1}, {1, 2, Met, 2}, {2, 2, Met, 3}, {3, 2, Missed, 3}, {1, 0, Missed, 1}} {
		l, places := &lab{dir: t.TempDir(), opt: Options{Retry: c.retry}}, map[string]bool{}
		r := row{number: 4, run: func(_ context.Context, l *lab) (result, error) {
			place, err := l.place("run")
			places[place] = true
			return result{"", len(places) > c.misses}, err
		}}
		var out bytes.Buffer
		verdict, err := tryRow(t.Context(), l, r, printer{&out, false})
		if lines := strings.Count(out.String(), "\n"); err != nil || verdict != c.want || lines != c.lines || len(places) != c.lines {
			t.Errorf("%+v: %s, %v, %d lines, %d places", c, verdict, err, lines, len(places))
		}
	}
}

// TestAwait follows a process that speaks, waits for an end, and dies.
func TestAwait(t *testing.T) {
	l := &lab{dir: t.TempDir()}
	p, err := l.start(t.Context(), "/bin/sh", "-c", "echo resumed from step 40 of 60; echo more; read x; exit 3")
	if err != nil {
		t.Skip(err)
	}
	if err := p.await(t.Context(), "more"); err != nil || p.resumed() != 40 {
		t.Errorf("%v, resumed from %d", err, p.resumed())
	}
	if err := p.await(t.Context(), "never said"); err == nil || !strings.Contains(err.Error(), "ended (exit status 3)") {
		t.Error(err)
	}
	if p.code() != 3 || p.lastLine() != "more" {
		t.Errorf("code %d, %q", p.code(), p.lastLine())
	}
}

// TestRestated: a checkpoint whose manifest was made to fit verifies again, and one
// that was not does not.
func TestRestated(t *testing.T) {
	mem := vfs.NewMem()
	m, err := checkpoint.Open(mem, "c", checkpoint.Options{Config: checkpoint.Default()})
	if err != nil {
		t.Fatal(err)
	}
	data := safetensors.Bytes([]float32{1, 2})
	err = m.Save(&checkpoint.Snapshot{State: checkpoint.State{Step: 20}, Tensors: []checkpoint.Tensor{
		{Name: "x", DType: safetensors.F32, Shape: []int64{2}, Group: checkpoint.GroupModel, Data: data}}})
	if err := errors.Join(err, m.Wait()); err != nil {
		t.Fatal(err)
	}
	const dir = "c/step-00000020/"
	state, err := vfs.ReadFile(mem, dir+"state.json", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := vfs.ReadFile(mem, dir+"manifest.json", 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	replace := func(name string, text []byte) {
		t.Helper()
		if err := errors.Join(mem.Remove(dir+name), vfs.WriteFile(mem, dir+name, text)); err != nil {
			t.Fatal(err)
		}
	}
	state = bytes.Replace(state, []byte(`"seed": 0`), []byte(`"seed": 7`), 1)
	replace("state.json", state)
	if _, err := checkpoint.Verify(t.Context(), mem, "c", "step-00000020"); !errors.Is(err, checkpoint.ErrCorrupt) {
		t.Error(err)
	}
	if manifest, err = restate(manifest, "state.json", int64(len(state)), state); err != nil {
		t.Fatal(err)
	}
	replace("manifest.json", manifest)
	c, err := checkpoint.Verify(t.Context(), mem, "c", "step-00000020")
	if err != nil || c.State.Seed != 7 {
		t.Errorf("%v", err)
	}
}

func TestMutate(t *testing.T) {
	for seed := range uint64(2000) {
		good := []byte("some 123456 text of a length that is like others"[:seed%49])
		a, b := mutate(good, prng.New(seed, "x")), mutate(good, prng.New(seed, "x"))
		if !bytes.Equal(a, b) {
			t.Fatalf("seed %d: %q and %q", seed, a, b)
		}
	}
}

// TestEscapeIsSeen: what the row on names looks for is found when it is there.
func TestEscapeIsSeen(t *testing.T) {
	dir := t.TempDir()
	e := escapes{inside: filepath.Join(dir, "inside"), outside: filepath.Join(dir, "outside")}
	for _, d := range []string{e.inside, e.outside} {
		if err := os.Mkdir(d, 0o777); err != nil {
			t.Fatal(err)
		}
	}
	before, err := fingerprint(dir, e.inside)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(e.inside, "plain"), []byte(secret), 0o666); err != nil {
		t.Fatal(err)
	}
	if e.direct("plain") == "" {
		t.Error("a secret that is read is not seen")
	}
	if err := os.WriteFile(filepath.Join(e.outside, "new"), nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if after, err := fingerprint(dir, e.inside); err != nil || after == before {
		t.Error("a new file outside is not seen")
	}
	names := corpus(prng.New(1, "x"), e.outside, 1000)
	if slices.Sort(names); len(slices.Compact(names)) != 1000 {
		t.Error("names repeat")
	}
}

// TestDualCommits: the row on two coordinators sees a second history.
func TestDualCommits(t *testing.T) {
	dir := t.TempDir()
	root, err := vfs.Dir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	m, err := checkpoint.Open(root, checkpointDir, checkpoint.Options{Config: checkpoint.Default(), Run: "r", Term: 2, Generation: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(m.Save(small(3)), m.Wait()); err != nil {
		t.Fatal(err)
	}
	last := claim{3, 2, 2}
	for _, c := range []struct {
		claims []claim
		dual   int
		fails  bool
	}{
		{[]claim{last, {1, 1, 1}, {2, 1, 1}}, 0, false},
		{[]claim{{1, 1, 1}, {2, 1, 1}, {2, 2, 2}, last}, 1, false}, // a step twice
		{[]claim{{1, 2, 2}, {2, 1, 1}, last}, 1, false},            // a late one of a past generation
		{[]claim{last, {4, 2, 2}}, 0, true},                        // one that is lost
		{nil, 0, true},
	} {
		if dual, err := dualCommits(t.Context(), dir, c.claims); dual != c.dual || (err != nil) != c.fails {
			t.Errorf("%v: %d dual commits, %v", c.claims, dual, err)
		}
	}
}
