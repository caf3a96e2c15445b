package configs_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"jambalaya/configs"
	"jambalaya/internal/config"
	"jambalaya/trainer"
)

func load(t *testing.T, name string) trainer.Config {
	t.Helper()
	cfg, err := trainer.LoadPreset(name)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// TestEveryPreset decodes and validates all files, and resolves them to a text
// that reads back as the same configuration.
func TestEveryPreset(t *testing.T) {
	t.Parallel()
	for _, name := range configs.Names() {
		cfg := load(t, name)
		text, err := config.Encode(cfg)
		if err != nil {
			t.Fatal(err)
		}
		again, _, err := trainer.LoadConfig(config.File{Name: "config.yaml", Text: text}, nil)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff, err := config.Diff(cfg, again); err != nil || len(diff) > 0 {
			t.Errorf("%s: %v %v", name, diff, err)
		}
	}
}

func TestSizes(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]int64{ // total, active
		"jamba-v0.1": {51_570_323_328, 12_110_311_296},
		"cpu-peer":   {17_658_960, 0},
	} {
		counts := load(t, name).Model.Counts()
		if counts.Total != want[0] || want[1] != 0 && counts.Active != want[1] {
			t.Errorf("%s has %d parameters, %d active; want %v", name, counts.Total, counts.Active, want)
		}
	}
	for name, want := range map[string][2]int64{ // millions, from and to
		"nano": {3, 3}, "llama2": {3, 3}, "mixtral": {3, 3}, "mamba": {3, 3}, "test-tiny": {0, 1}, "mini": {100, 200}, "bench-small": {136, 136}, "bench-1b": {2472, 2472},
	} {
		counts := load(t, name).Model.Counts()
		if millions := (counts.Total + 500_000) / 1_000_000; millions < want[0] || millions > want[1] {
			t.Errorf("%s has %d parameters, want %v millions", name, counts.Total, want)
		}
		t.Logf("%s: %+v", name, counts)
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "my.yaml")
	if err := os.WriteFile(path, []byte("trainer: {steps: 5}"), 0o644); err != nil {
		t.Fatal(err)
	}
	file, err := configs.Load(path)
	if err != nil || file.Name != path || string(file.Text) != "trainer: {steps: 5}" {
		t.Errorf("%+v %v", file, err)
	}
	for _, missing := range []string{path + ".yaml", "none.yaml", "./none", t.TempDir() + "/"} {
		if _, err := configs.Load(missing); err == nil || errors.Is(err, configs.ErrUnknown) {
			t.Errorf("%s: %v", missing, err)
		}
	}
	if names := configs.Names(); !slices.IsSorted(names) || !slices.Contains(names, "nano") {
		t.Error(names)
	}
	_, err = configs.Load("nanno")
	if want := `unknown preset "nanno": did you mean nano? there are bench-1b, `; !errors.Is(err, configs.ErrUnknown) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
	for _, name := range []string{"", "../configs", "zzzzzz"} {
		if _, err := configs.Load(name); err == nil {
			t.Errorf("%q was loaded", name)
		}
	}
	huge := filepath.Join(t.TempDir(), "huge.yaml")
	if err := os.WriteFile(huge, make([]byte, 2*config.MaxBytes), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := configs.Load(huge); err == nil || !strings.Contains(err.Error(), "has 2097152 bytes; a configuration has at most 1048576") {
		t.Error(err)
	}
}
