package trainer

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jambalaya/internal/cli"
	"jambalaya/internal/safetensors"
	"jambalaya/trainer/report"
)

// runHere trains in this process and returns what it says.
func runHere(t *testing.T, c Config, dir string) (string, error) {
	t.Helper()
	out, err := os.Create(filepath.Join(t.TempDir(), "stdout"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	err = Run(t.Context(), c, Options{Name: "tiny", Out: dir, Stdout: out})
	text, readErr := os.ReadFile(out.Name())
	if readErr != nil {
		t.Fatal(readErr)
	}
	return string(text), err
}

func noWarning(t *testing.T) func(string) { return func(text string) { t.Error("warning:", text) } }

// greedy is the most likely continuation by a run's model.
func greedy(t *testing.T, dir string) string {
	t.Helper()
	trained, err := OpenTrained(context.Background(), dir, "cpu", 1)
	if err != nil {
		t.Fatal(err)
	}
	defer trained.Close()
	var text strings.Builder
	err = trained.Generate(t.Context(), Generation{Prompt: "func (c Config) ", MaxNewTokens: 40}, func(piece []byte) error {
		text.Write(piece)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return text.String()
}

// TestTrainExportImportTrain sends a trained model with a vocabulary of its own through
// the hub's format: what comes back writes the same text, and training that starts from
// it starts where the model was.
func TestTrainExportImportTrain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run, hub, imported := filepath.Join(dir, "run"), filepath.Join(dir, "hub"), filepath.Join(dir, "imported")
	c := tinyConfig(filepath.Join(dir, "cache"))
	c.Trainer.Steps, c.Trainer.EvalEvery = 20, 20
	c.Data.Tokenizer, c.Model.VocabSize = "bpe-320", 320
	if text, err := runHere(t, c, run); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if _, err := ExportRun(t.Context(), Export{Run: run, Out: hub, DType: safetensors.F32}, noWarning(t)); err != nil {
		t.Fatal(err)
	}
	if _, err := ImportHub(hub, imported, ""); err != nil {
		t.Fatal(err)
	}
	if a, b := greedy(t, run), greedy(t, imported); a != b || a == "" {
		t.Errorf("the model wrote %q, and writes %q", a, b)
	}
	next := c
	next.Trainer.InitFrom, next.Trainer.Steps = imported, 2
	text, err := runHere(t, next, filepath.Join(dir, "next"))
	if err != nil || !strings.Contains(text, "weights: those of "+imported+" after step 0") {
		t.Fatalf("%v\n%s", err, text)
	}
	before, after := lastValidation(t, run), firstValidation(t, filepath.Join(dir, "next"))
	if before != after {
		t.Errorf("validation %+v before, %+v after", before, after)
	}

	if _, err := runHere(t, c, imported); cli.Code(err) != cli.CodeConfig || !strings.Contains(err.Error(), "trainer.init_from="+imported) {
		t.Errorf("training in the imported run's directory: %v", err)
	}
	next.Model.RMSNormEps = 1e-5
	if _, err := runHere(t, next, filepath.Join(dir, "other")); cli.Code(err) != cli.CodeConfig || !strings.Contains(err.Error(), "model.rms_norm_eps: is 1e-06 in trainer.init_from") {
		t.Errorf("a model with another epsilon: %v", err)
	}
	next.Trainer.InitFrom = dir
	if _, err := runHere(t, next, filepath.Join(dir, "nothing")); cli.Code(err) != cli.CodeConfig || !strings.Contains(err.Error(), "is not the directory of a run") {
		t.Errorf("from no run: %v", err)
	}
}

func lines(t *testing.T, dir string) []report.Line {
	t.Helper()
	all, err := report.ReadMetrics(filepath.Join(dir, metricsFile))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func firstValidation(t *testing.T, dir string) report.Validation {
	first, _ := validations(lines(t, dir))
	return first
}

func lastValidation(t *testing.T, dir string) report.Validation {
	_, last := validations(lines(t, dir))
	return last
}

// TestBoxOf cuts boxes from all runs of whole rows of a tensor.
func TestBoxOf(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		shape          []int
		offset, length int
		start, extent  []int64
	}{
		{[]int{7}, 2, 3, []int64{2}, []int64{3}},
		{[]int{5, 3}, 0, 15, []int64{0, 0}, []int64{5, 3}},
		{[]int{5, 3}, 6, 9, []int64{2, 0}, []int64{3, 3}},
		{[]int{4, 6, 2}, 24, 6, []int64{2, 0, 0}, []int64{1, 3, 2}},
		{[]int{4, 6, 2}, 30, 6, []int64{2, 3, 0}, []int64{1, 3, 2}},
		{[]int{4, 6, 2}, 36, 12, []int64{3, 0, 0}, []int64{1, 6, 2}},
	} {
		start, extent := boxOf(c.shape, c.offset, c.length)
		if !slices.Equal(start, c.start) || !slices.Equal(extent, c.extent) {
			t.Errorf("%v from %d, %d elements: at %v of %v, want %v of %v", c.shape, c.offset, c.length, start, extent, c.start, c.extent)
		}
	}
}
