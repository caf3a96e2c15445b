package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/plot/plotter"
	"pgregory.net/rapid"
)

// fake is a plausible line; only its timing depends on run.
func fake(step int64, run int) Line {
	l := Line{Step: step, Tokens: step * 4096, Timing: Timing{TokensPerS: Number(20000 + 100*run), Time: Number(run) + 0.5}}
	if step > 0 {
		r := rand.New(rand.NewPCG(1, uint64(step)))
		x := float64(step)
		ce := 1.1 + 4.5*math.Exp(-x/60) + 0.9*math.Exp(-x/700) + 0.07*r.NormFloat64()
		l.Train = &Train{Loss: Number(ce + 0.002), CELoss: Number(ce), AuxLoss: 2.01, GradNorm: Number(r.Float64()), LR: 3e-4,
			ExpertLoad: [][]Number{{0.25, 0.75}}}
	}
	if step%100 == 0 {
		x := float64(step)
		val := 1.15 + 4.45*math.Exp(-x/60) + 0.9*math.Exp(-x/700)
		l.Validation = &Validation{ValLoss: Number(val), BitsPerByte: Number(val / math.Ln2)}
	}
	return l
}

func write(t *testing.T, path string, from, to int64, run int) {
	t.Helper()
	m, err := OpenMetrics(path, from)
	if err != nil {
		t.Fatal(err)
	}
	for step := m.Last() + 1; step <= to; step++ {
		if err := m.Append(fake(step, run)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(m.Sync(), m.Close()); err != nil {
		t.Fatal(err)
	}
}

func deterministic(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	for line := range bytes.Lines(text) {
		stripped, err := Deterministic(line)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(append(stripped, '\n'))
	}
	return out.String()
}

// TestResume cuts a file of 30 steps at every byte and resumes from step 10: the
// result is that of a run without interruption.
func TestResume(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	whole := filepath.Join(dir, "whole.jsonl")
	write(t, whole, -1, 30, 1)
	text, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	want := deterministic(t, whole)
	after10 := len(bytes.Join(bytes.SplitAfter(text, []byte("\n"))[:11], nil))
	path := filepath.Join(dir, "cut.jsonl")
	for cut := after10; cut <= len(text); cut += 31 {
		if err := os.WriteFile(path, text[:cut], 0o644); err != nil {
			t.Fatal(err)
		}
		write(t, path, 10, 30, 2)
		if got := deterministic(t, path); got != want {
			t.Fatalf("cut at %d: got\n%swant\n%s", cut, got, want)
		}
	}
	write(t, path, -1, 30, 3)
	if got := deterministic(t, path); got != want {
		t.Errorf("a fresh start kept lines of the old run: %s", got)
	}
}

func TestReadMetrics(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	write(t, path, -1, 100, 1)
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"step":101,"lo`); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	lines, err := ReadMetrics(path)
	if err != nil || len(lines) != 101 {
		t.Fatalf("%d lines, %v", len(lines), err)
	}
	if lines[0].Train != nil || lines[0].Validation == nil || lines[7].Validation != nil || lines[100].Validation == nil {
		t.Error("fields are in the wrong lines")
	}
	if l := lines[7]; l.CELoss != fake(7, 1).CELoss || l.ExpertLoad[0][1] != 0.75 || l.TokensPerS != 20100 {
		t.Errorf("got %+v", l)
	}
}

func TestLineHasTheDocumentedFields(t *testing.T) {
	t.Parallel()
	l := fake(100, 1)
	text, err := json.Marshal(l)
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(text, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"step", "loss", "ce_loss", "aux_loss", "grad_norm", "lr", "tokens", "tokens_per_s", "time",
		"val_loss", "bits_per_byte", "expert_load"} {
		if _, ok := fields[name]; !ok {
			t.Errorf("no %s in %s", name, text)
		}
	}
	l.CELoss, l.Skipped = Number(math.NaN()), "non-finite"
	if text, err = json.Marshal(l); err != nil || !strings.Contains(string(text), `"ce_loss":null,`) || !strings.Contains(string(text), `"skipped":"non-finite"`) {
		t.Errorf("%s %v", text, err)
	}
	var again Line
	if err := json.Unmarshal(text, &again); err != nil || !math.IsNaN(float64(again.CELoss)) {
		t.Errorf("%+v %v", again, err)
	}
}

func TestDeterministic(t *testing.T) {
	t.Parallel()
	a, err := Deterministic([]byte(`{"step":1,"loss":0.1,"time":3,"tokens_per_s":4}`))
	b, err2 := Deterministic([]byte(`{"tokens_per_s":5, "loss":0.1, "step":1}` + "\n"))
	c, err3 := Deterministic([]byte(`{"step":1,"loss":0.10000000000000002}`))
	if err := errors.Join(err, err2, err3); err != nil || !bytes.Equal(a, b) || bytes.Equal(a, c) {
		t.Errorf("%s %s %s %v", a, b, c, err)
	}
	if _, err := Deterministic([]byte("{")); !errors.Is(err, ErrDamaged) {
		t.Error(err)
	}
}

func TestNumbersRoundTrip(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		x := math.Float64frombits(rapid.Uint64().Draw(t, "bits"))
		text, err := json.Marshal(Number(x))
		var y Number
		if err == nil {
			err = json.Unmarshal(text, &y)
		}
		if err != nil || float64(y) != x && !math.IsNaN(float64(y)) || finite(y) != finite(Number(x)) {
			t.Fatalf("%v became %s, then %v: %v", x, text, y, err)
		}
	})
}

func TestDamage(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "metrics.jsonl")
	good := `{"step":1}` + "\n"
	for _, text := range []string{"nonsense\n" + good, good + "{\"step\":2,}\n", good + good, good + "{}\n", "\x00\x00\n", good + `{"step":"2"}` + "\n"} {
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := OpenMetrics(path, 10)
		_, err2 := ReadMetrics(path)
		if !errors.Is(err, ErrDamaged) || !errors.Is(err2, ErrDamaged) || !strings.Contains(err.Error(), "metrics.jsonl:") {
			t.Errorf("%q: %v, %v", text, err, err2)
		}
		if now, err := os.ReadFile(path); err != nil || string(now) != text {
			t.Errorf("%q became %q, %v", text, now, err)
		}
	}
	if _, err := ReadMetrics(path + ".none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := OpenMetrics(filepath.Dir(path), 0); err == nil {
		t.Error("opened a directory")
	}
}

func TestOrder(t *testing.T) {
	t.Parallel()
	m, err := OpenMetrics(filepath.Join(t.TempDir(), "metrics.jsonl"), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.Append(Line{Step: 3}); err != nil {
		t.Fatal(err)
	}
	for _, step := range []int64{3, 2, -1} {
		if err := m.Append(Line{Step: step}); !errors.Is(err, ErrOrder) {
			t.Errorf("step %d after 3: %v", step, err)
		}
	}
}

// TestFullDisk appends to a device that takes nothing.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	f, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Skip("there is no /dev/full")
	}
	m := &Metrics{file: f, last: -1}
	if err := m.Append(Line{Step: 1}); err == nil || m.Last() != -1 || m.size != 0 {
		t.Errorf("%v, last %d, size %d", err, m.Last(), m.size)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func FuzzOpenMetrics(f *testing.F) {
	f.Add([]byte("{\"step\":1,\"loss\":2.5}\n{\"step\":2"), int64(1))
	f.Add([]byte("{\"step\":0,\"val_loss\":null}\n\n"), int64(5))
	f.Add([]byte("\x00\x00\x00\x00"), int64(-1))
	f.Fuzz(func(t *testing.T, text []byte, step int64) {
		path := filepath.Join(t.TempDir(), "metrics.jsonl")
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		m, err := OpenMetrics(path, step)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Fatal(err)
			}
			return
		}
		if m.Last() < math.MaxInt64 {
			if err := m.Append(Line{Step: m.Last() + 1}); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
		lines, err := ReadMetrics(path)
		if err != nil || len(lines) > 0 && lines[len(lines)-1].Step != m.Last() {
			t.Fatalf("%d lines, %v", len(lines), err)
		}
	})
}

func TestCompress(t *testing.T) {
	text := []byte(strings.Repeat("func main() { fmt.Println(1234567) }\n", 3000))
	for _, path := range []string{os.Getenv("PATH"), ""} {
		t.Setenv("PATH", path)
		all, err := Compress(context.Background(), text)
		if err != nil || len(all) != 2 {
			t.Fatal(all, err)
		}
		for _, c := range all {
			if c.Bytes < 20 || c.Bytes > 2000 || c.BitsPerByte != 8*float64(c.Bytes)/float64(len(text)) {
				t.Errorf("%+v", c)
			}
			if path == "" && !strings.Contains(c.Label, "Go") {
				t.Errorf("%q does not say that a library did it", c.Label)
			}
		}
	}
	if _, err := Compress(context.Background(), nil); err == nil {
		t.Error("compressed nothing")
	}
}

func TestCompressStops(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := Compress(ctx, []byte("text")); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestPlotLoss(t *testing.T) {
	t.Parallel()
	var lines []Line
	for step := range int64(1001) {
		lines = append(lines, fake(step, 0))
	}
	dir := t.TempDir()
	if keep := os.Getenv("KEEP_PLOTS"); keep != "" {
		dir = keep
	}
	baselines := []Compressed{{"gzip -9", 1, 1.93}, {"xz -9e", 1, 1.62}}
	for name, p := range map[string]Plot{
		"full": {Title: "nano: 2.4 M parameters, 12.3 M tokens", Lines: lines, Baselines: baselines},
		"one":  {Title: "nano", Lines: lines[:2], Baselines: baselines},
		"none": {Title: "nano"},
		"low":  {Title: "over-fitted", Lines: []Line{{Step: 1, Train: &Train{CELoss: 1e-9}}, {Step: 2, Train: &Train{CELoss: 0}}}},
	} {
		path := filepath.Join(dir, name+".png")
		if err := PlotLoss(path, p); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		image, err := png.Decode(f)
		if err != nil || image.Bounds().Dx() != 1200 || image.Bounds().Dy() != 750 {
			t.Errorf("%s: %v, %v", name, image.Bounds(), err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".loss*")); len(left) != 0 {
		t.Errorf("left %v behind", left)
	}
	if err := PlotLoss(filepath.Join(dir, "no", "loss.png"), Plot{}); err == nil {
		t.Error("wrote into a directory that does not exist")
	}
}

func TestCurves(t *testing.T) {
	t.Parallel()
	flat := make(plotter.XYs, 50_000)
	for i := range flat {
		flat[i] = plotter.XY{X: float64(i), Y: 1}
	}
	flat[31_234].Y = 9
	highest := 0.0
	for _, p := range extremes(flat) {
		highest = max(highest, p.Y)
	}
	if n := len(extremes(flat)); n > 2*plotPoints || highest != 9 {
		t.Errorf("%d points, the highest at %v", n, highest)
	}
	flat[31_234].Y = 1
	for _, p := range smooth(flat) {
		if math.Abs(p.Y-1) > 1e-9 {
			t.Fatalf("smoothing a flat curve gave %v", p)
		}
	}
	kept := sample(flat)
	if len(kept) != plotPoints || kept[0] != flat[0] || kept[len(kept)-1] != flat[len(flat)-1] {
		t.Errorf("%d points from %v to %v", len(kept), kept[0], kept[len(kept)-1])
	}
	if got := fmt.Sprint(smooth(plotter.XYs{{X: 1, Y: 3}, {X: 2, Y: 6}, {X: 3, Y: 0}})); got != "[{1 3} {2 3} {3 3}]" {
		t.Errorf("got %s", got)
	}
}

func TestStepTicks(t *testing.T) {
	t.Parallel()
	for high, want := range map[float64]string{
		1: "0 1", 7: "0 1 2 3 4 5 6 7", 50: "0 5 10 15 20 25 30 35 40 45 50", 997: "0 100 200 300 400 500 600 700 800 900",
		12_345: "0 2000 4000 6000 8000 10000 12000", 3e9: "0 500000000 1000000000 1500000000 2000000000 2500000000 3000000000",
	} {
		var labels []string
		for _, tick := range stepTicks(0, high) {
			labels = append(labels, tick.Label)
		}
		if got := strings.Join(labels, " "); got != want {
			t.Errorf("up to %g: %s, want %s", high, got, want)
		}
	}
}
