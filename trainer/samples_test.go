package trainer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/parallel"
)

// TestWorldsSample: ranks write the samples that one alone writes, while they train and at
// the end, also where none of them has all experts.
func TestWorldsSample(t *testing.T) {
	t.Parallel()
	cache := t.TempDir()
	run := func(w world) map[string]string {
		c := w.config(cache)
		c.Trainer.Steps, c.Trainer.Samples, c.Trainer.SampleEvery, c.Trainer.SampleTokens = 6, 3, 3, 24
		c.Trainer.SamplePrompts = []string{"func main() {", "package trainer\n\nimport (\n\t\"os\"\n\t\"path/filepath\"\n)\n"}
		dir := t.TempDir()
		if w.Size() == 1 {
			trainAlone(t, dir, c)
		} else {
			trainWorld(t, dir, c, 1)
		}
		texts := map[string]string{}
		for _, name := range []string{samplesFile, samplesDir + "/step-00000003.txt", samplesDir + "/step-00000006.txt"} {
			text, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatalf("%v: %v", w, err)
			}
			if n := strings.Count(string(text), "==== sample"); n != 3 {
				t.Errorf("%v: %d samples in %s, want 3", w, n, name)
			}
			texts[name] = string(text)
		}
		return texts
	}
	want := run(world{Mesh: parallel.Mesh{Data: 1, Expert: 1}})
	if want[samplesFile] == want[samplesDir+"/step-00000003.txt"] {
		t.Error("the samples are the same after 3 and after 6 steps")
	}
	for _, w := range []world{
		{Mesh: parallel.Mesh{Data: 2, Expert: 1}, zero1: true},
		{Mesh: parallel.Mesh{Data: 1, Expert: 2}},
		{Mesh: parallel.Mesh{Data: 2, Expert: 2}, zero1: true},
	} {
		for name, text := range run(w) {
			if text != want[name] {
				t.Errorf("%v: %s is\n%s\nalone\n%s", w, name, text, want[name])
			}
		}
	}
}
