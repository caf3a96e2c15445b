package parity

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"jambalaya/internal/backend/cpu"
	"jambalaya/internal/backend/cpu/simd"
)

// TestGolden runs every recorded case, on each path of the processor.
func TestGolden(t *testing.T) {
	dirs, err := filepath.Glob("../../model/testdata/golden/*/config.json")
	if err != nil || len(dirs) < 9 {
		t.Fatalf("golden cases: %v, %v", dirs, err)
	}
	be := cpu.New(0)
	defer be.Close()
	t.Logf("path %s", simd.Level())
	for _, config := range dirs {
		dir := filepath.Dir(config)
		t.Run(filepath.Base(dir), func(t *testing.T) {
			report, err := Run(be, dir, DefaultTolerances())
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%v", report)
			if !report.Pass() {
				t.Error("differs from the reference")
			}
		})
	}
}

// TestWrongEpsilonFails shows that the tolerances notice a norm of another
// epsilon.
func TestWrongEpsilonFails(t *testing.T) {
	src := "../../model/testdata/golden/jamba_1to7"
	dir := t.TempDir()
	for _, name := range []string{"config.json", "golden.safetensors", "model.safetensors"} {
		data, err := os.ReadFile(filepath.Join(src, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "config.json" {
			data = []byte(strings.Replace(string(data), `"rms_norm_eps": 1e-06`, `"rms_norm_eps": 1e-03`, 1))
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	be := cpu.New(1)
	defer be.Close()
	report, err := Run(be, dir, DefaultTolerances())
	if err != nil {
		t.Fatal(err)
	}
	if report.Pass() {
		t.Errorf("passes with another epsilon:\n%v", report)
	}
}

// TestNoCase gives one line that says what a case is.
func TestNoCase(t *testing.T) {
	be := cpu.New(1)
	defer be.Close()
	_, err := Run(be, t.TempDir(), DefaultTolerances())
	if err == nil || !strings.Contains(err.Error(), "config.json") {
		t.Errorf("got %v", err)
	}
}
