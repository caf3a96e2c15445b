package experiments

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"jambalaya/internal/cli"
	"jambalaya/trainer"
	"jambalaya/trainer/report"
)

// text writes a small corpus and returns its assignments.
func text(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	for i := range 40 {
		line := fmt.Sprintf("func f%d(x int) int { return x*%d + %d }\n", i, i%7, i%3)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("f%02d.go", i)), []byte(strings.Repeat(line, 8)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return []string{fmt.Sprintf("data.sources=[{path: %q, ext: .go}]", dir), "data.cache_dir=" + t.TempDir()}
}

func run(t *testing.T, ctx context.Context, out string, set []string) (*Grid, string, error) {
	t.Helper()
	g, err := load(t, tiny, set...)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	err = Run(ctx, g, Options{Out: out, Device: "cpu", Stdout: log})
	printed, _ := os.ReadFile(log.Name())
	return g, string(printed), err
}

// results reads what all cells measured, without what differs between two runs of
// the same bits.
func results(t *testing.T, g *Grid, out string) []Result {
	t.Helper()
	var all []Result
	for _, c := range g.Cells {
		r, err := g.result(out, c)
		if err != nil || r == nil {
			t.Fatalf("%s: %v %v", c.Name, r, err)
		}
		r.TokensPerS = 0
		all = append(all, *r)
	}
	return all
}

// TestGrid runs a grid to its end, and another that is stopped and goes on: both
// measure the same, and no cell is run twice.
func TestGrid(t *testing.T) {
	t.Parallel()
	set := text(t)
	whole, stopped := filepath.Join(t.TempDir(), "whole"), filepath.Join(t.TempDir(), "stopped")
	g, printed, err := run(t, context.Background(), whole, set)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(printed, "4/4 cells") || !strings.Contains(printed, "report: ") {
		t.Errorf("printed:\n%s", printed)
	}
	want := results(t, g, whole)
	checkResults(t, want)
	checkReport(t, g, whole)

	ctx, stop := context.WithCancel(context.Background())
	go func() { // once the first cell has a checkpoint
		defer stop()
		for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if found, _ := filepath.Glob(filepath.Join(stopped, cellsDir, "*", checkpointDir, "*")); len(found) > 0 {
				return
			}
		}
	}()
	if _, _, err := run(t, ctx, stopped, set); cli.Code(err) != cli.CodeInterrupted || !errors.Is(err, trainer.ErrStopped) {
		t.Fatalf("stopped with %v", err)
	}
	if _, _, err := run(t, context.Background(), stopped, set); err != nil {
		t.Fatal(err)
	}
	if got := results(t, g, stopped); !reflect.DeepEqual(got, want) {
		t.Errorf("a grid that was stopped measured\n%+v, not\n%+v", got, want)
	}
	checkDone(t, g, whole, set)
}

// checkDone runs a finished grid again, and others in its place.
func checkDone(t *testing.T, g *Grid, out string, set []string) {
	t.Helper()
	log := filepath.Join(out, cellsDir, g.Cells[0].Name, logFile)
	before, err := os.Stat(log)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := run(t, context.Background(), out, set); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Stat(log); after.Size() != before.Size() {
		t.Error("a cell that was done ran again")
	}
	if _, _, err := run(t, context.Background(), out, append([]string{"seeds=[1, 3]"}, set...)); !errors.Is(err, ErrOtherGrid) || cli.Code(err) != cli.CodeConfig {
		t.Errorf("another grid in the folder: %v", err)
	}
	if _, _, err := run(t, context.Background(), filepath.Dir(log), set); !errors.Is(err, ErrOtherGrid) {
		t.Errorf("a grid in the folder of a run: %v", err)
	}
}

func checkResults(t *testing.T, all []Result) {
	t.Helper()
	for _, r := range all {
		if r.Steps != 6 || r.Tokens != 6*2*32 || !(r.BitsPerByte > 0 && r.ValLoss > 0 && r.ActivationRMS > 0) {
			t.Errorf("%+v", r)
		}
		if len(r.Recall) != 6 {
			t.Errorf("%s: %d recall scores", r.Cell, len(r.Recall))
		}
		for _, s := range r.Recall {
			if s.Answers < 4 || !(s.Accuracy >= 0 && s.Accuracy <= 1) {
				t.Errorf("%s: %+v", r.Cell, s)
			}
		}
	}
	if all[0].DataHash != all[1].DataHash || all[0].DataHash == all[2].DataHash {
		t.Error("cells of a seed share the order of samples, others do not")
	}
	if all[0].ConfigHash == all[1].ConfigHash || all[0].ValLoss == all[1].ValLoss {
		t.Error("two variants are the same")
	}
}

// checkReport checks that numbers of the report are those of the runs.
func checkReport(t *testing.T, g *Grid, out string) {
	t.Helper()
	f, err := os.Open(filepath.Join(out, resultsCSV))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil || len(rows) != 1+len(g.Cells) {
		t.Fatalf("%d rows, %v", len(rows), err)
	}
	lines, err := report.ReadMetrics(filepath.Join(out, rows[1][0], metricsFile))
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%.4f", lines[len(lines)-1].BitsPerByte)
	page, err := os.ReadFile(filepath.Join(out, reportHTML))
	if err != nil {
		t.Fatal(err)
	}
	md, err := os.ReadFile(filepath.Join(out, reportMD))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{want, "hybrid", "What this does not show"} {
		if !bytes.Contains(page, []byte(text)) || !bytes.Contains(md, []byte(text)) {
			t.Errorf("the reports lack %q", text)
		}
	}
	for _, bad := range []string{"NaN", "http://", "https://", "<no value>", "%!"} {
		if i := bytes.Index(bytes.ReplaceAll(page, []byte(`xmlns="http://www.w3.org/2000/svg"`), nil), []byte(bad)); i >= 0 {
			t.Errorf("the page has %q", bad)
		}
	}
	figures, err := filepath.Glob(filepath.Join(out, figuresDir, "*.svg"))
	if err != nil || len(figures) < 8 {
		t.Errorf("%d figures, %v", len(figures), err)
	}
	for _, name := range figures {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(md, []byte(filepath.Base(name))) {
			t.Errorf("the Markdown lacks %s", name)
		}
		for d := xml.NewDecoder(bytes.NewReader(text)); err == nil; {
			_, err = d.Token()
		}
		if err != io.EOF {
			t.Errorf("%s: %v", name, err)
		}
	}
	if info, err := os.Stat(filepath.Join(out, resultsFile)); err != nil || info.Size() == 0 {
		t.Error(err)
	}
}

// TestFailedCell lets a cell fail: the others are done and reported, and the same
// call makes up for it.
func TestFailedCell(t *testing.T) {
	t.Parallel()
	set := append(text(t), "seeds=[1]")
	out := t.TempDir()
	blocked := filepath.Join(out, cellsDir, "mamba-seed1")
	g, err := load(t, tiny, set...)
	if err != nil {
		t.Fatal(err)
	}
	if err := openOut(g, out); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(blocked, logFile), 0o755); err != nil { // a directory in the place of a file
		t.Fatal(err)
	}
	_, printed, err := run(t, context.Background(), out, set)
	if !errors.Is(err, ErrIncomplete) || !strings.Contains(printed, "once more") || !strings.Contains(printed, "cell mamba-seed1 failed") {
		t.Fatalf("%v, printed:\n%s", err, printed)
	}
	page, err := os.ReadFile(filepath.Join(out, reportMD))
	if err != nil || !bytes.Contains(page, []byte("1 of 2 runs are missing")) {
		t.Errorf("%v\n%s", err, page)
	}
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	if g, _, err = run(t, context.Background(), out, set); err != nil {
		t.Fatal(err)
	}
	results(t, g, out)

	for _, name := range []string{resultFile, metricsFile} { // a complete run whose figures are lost
		if err := os.Remove(filepath.Join(blocked, name)); err != nil {
			t.Fatal(err)
		}
	}
	_, printed, err = run(t, context.Background(), out, set)
	if !errors.Is(err, ErrIncomplete) || !strings.Contains(printed, "has no step in it") {
		t.Errorf("without metrics: %v, printed:\n%s", err, printed)
	}
}

// TestCellOfAnotherProcess: a run that has ended is not measured again while who ran it
// measures it.
func TestCellOfAnotherProcess(t *testing.T) {
	t.Parallel()
	g, err := load(t, tiny)
	if err != nil {
		t.Fatal(err)
	}
	mine, other := &runner{grid: g, opt: Options{Out: t.TempDir()}}, &runner{grid: g}
	other.opt = mine.opt
	lock, err := other.lock(g.Cells[0])
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := mine.cell(t.Context(), g.Cells[0]); !errors.Is(err, trainer.ErrBusy) {
		t.Errorf("got %v, want %v", err, trainer.ErrBusy)
	}
	if _, err := os.Stat(filepath.Join(mine.dir(g.Cells[0]), logFile)); err == nil {
		t.Error("it was run all the same")
	}
}

func TestDryRun(t *testing.T) {
	t.Parallel()
	g, err := load(t, tiny)
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if err := DryRun(g, Options{Device: "cpu", Stdout: log}); err != nil {
		t.Fatal(err)
	}
	printed, _ := os.ReadFile(log.Name())
	for _, want := range []string{"4 cells", "hybrid-seed1", "mamba-seed2", "1/2", "in all"} {
		if !bytes.Contains(printed, []byte(want)) {
			t.Errorf("%q is not in\n%s", want, printed)
		}
	}
}
