package trainer

import (
	"strings"
	"testing"

	"jambalaya/internal/config"
)

func loadText(text string, set ...string) (Config, error) {
	cfg, _, err := LoadConfig(config.File{Name: "t.yaml", Text: []byte(text)}, set)
	return cfg, err
}

func TestDefaultIsValid(t *testing.T) {
	t.Parallel()
	if err := Default().Validate(); err != nil {
		t.Error(err)
	}
}

func TestFaultsOfValuesSayWhere(t *testing.T) {
	t.Parallel()
	_, err := loadText("trainer:\n  steps: 0\n  device: gpu\n  recompute: all\n  spike_threshold: -1\nmodel:\n  hidden_size: 0\noptim: {lr: 7}",
		"data={sources: [{path: \"\"}]}", "parallel.data=0", "checkpoint.keep=0", "trainer.threads=-1")
	want := `t.yaml:7:16: model.hidden_size: 0 is not between 1 and 262144
--set data={sources: [{path: ""}]}: data.sources[0].path: is empty; name a directory, a file, a folder of shards or go-source
t.yaml:2:10: trainer.steps: is 0 and so is minutes: set one of them
t.yaml:4:14: trainer.recompute: "all" is not one of none, cheap, layer
t.yaml:5:20: trainer.spike_threshold: -1 is not between 0 and a million
t.yaml:3:11: trainer.device: "gpu" is not one of auto, cpu, cuda
--set trainer.threads=-1: trainer.threads: -1 is not between 0 and 4096
t.yaml:8:13: optim.lr: 7 is not above 0 and at most 1
--set parallel.data=0: parallel.data: 0 is not between 1 and 65536
--set checkpoint.keep=0: checkpoint.keep: 0 is below 1`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestFaultsBetweenSections(t *testing.T) {
	t.Parallel()
	_, err := loadText("trainer: {batch_size: 1000000000, eval_tokens: 1}")
	if err == nil || !strings.Contains(err.Error(), "trainer.batch_size: 1000000000 sequences") || !strings.Contains(err.Error(), "trainer.eval_tokens: 1 is less") {
		t.Error(err)
	}
}

func TestTypo(t *testing.T) {
	t.Parallel()
	for set, want := range map[string]string{
		"trainer.stpes=5":    "did you mean trainer.steps?",
		"model.hiddensize=5": "did you mean model.hidden_size?",
		"lr=5":               "did you mean optim.lr?",
		"optimizer.lr=5":     "optimizer: unknown key",
	} {
		if _, err := loadText("", set); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", set, err, want)
		}
	}
}

func TestResume(t *testing.T) {
	t.Parallel()
	start := func(set ...string) Config {
		cfg, err := loadText("trainer: {steps: 3000, minutes: 4.5}", set...)
		if err != nil {
			t.Fatal(err)
		}
		return cfg
	}
	recorded := start("trainer.steps=1234") // what 4.5 minutes came to
	for _, c := range []struct {
		set   []string
		fault string
	}{
		{nil, ""},
		{[]string{"trainer.threads=1", "checkpoint.every=7", "trainer.eval_every=3", "trainer.device=cpu", "trainer.samples=9", "data.cache_dir=/x"}, ""},
		{[]string{"trainer.steps=0"}, ""},
		{[]string{"trainer.steps=500"}, "trainer.steps: the run was started with 1234, not 500; "},
		{[]string{"trainer.minutes=9"}, "trainer.steps: the run was started with 1234, not 3000; "},
		{[]string{"model.hidden_size=64"}, "model.hidden_size: the run was started with 128, not 64; go on with that, or start another run with --out or --fresh"},
		{[]string{"optim.lr=0.5"}, "optim.lr: the run was started with 0.001, not 0.5; "},
	} {
		got, err := start(c.set...).Resume(recorded)
		switch {
		case c.fault == "" && (err != nil || got.Trainer.Steps != 1234):
			t.Errorf("%v: %d steps, %v", c.set, got.Trainer.Steps, err)
		case c.fault != "" && (err == nil || !strings.HasPrefix(err.Error(), c.fault)):
			t.Errorf("%v: got %v, want %s", c.set, err, c.fault)
		}
	}
}

func TestStepsWithin(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		cfg     RunConfig
		seconds float64
		want    int
	}{
		{RunConfig{Steps: 10}, 1e9, 10},
		{RunConfig{Steps: 1000, Minutes: 1}, 0.1, 600},
		{RunConfig{Steps: 100, Minutes: 1}, 0.1, 100},
		{RunConfig{Minutes: 1}, 0.1, 600},
		{RunConfig{Minutes: 1}, 1e9, 1},
		{RunConfig{Minutes: 1}, 0, 1 << 30},
	} {
		if got := c.cfg.StepsWithin(c.seconds); got != c.want {
			t.Errorf("%+v at %v s: %d steps, want %d", c.cfg, c.seconds, got, c.want)
		}
	}
}
