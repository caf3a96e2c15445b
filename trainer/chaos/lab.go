package chaos

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"jambalaya/internal/prng"
)

// tiny is a model with every kind of layer that takes a millisecond a step.
const tiny = `model:
  vocab_size: 272
  hidden_size: 16
  intermediate_size: 16
  num_hidden_layers: 2
  num_attention_heads: 2
  num_key_value_heads: 1
  layer_pattern: aM
  num_experts: 4
  num_experts_per_tok: 2
  mamba_d_state: 4
data:
  sources: [{path: "%[1]s/text", ext: .txt}]
  sequence_length: 32
  cache_dir: "%[1]s/cache"
trainer:
  steps: 1000
  batch_size: 2
  eval_every: 1000
  eval_tokens: 64
  samples: 0
checkpoint:
  every: 20
`

// lab is what the rows share.
type lab struct {
	opt    Options
	dir    string // absolute
	train  string // binary
	config string // tiny
	row    int    // in progress
	try    int    // of the row, from 0
	count  int    // of processes
	killed *kills // measured already
	awake  *awake
}

// openLab builds the binary and writes the data.
func openLab(ctx context.Context, opt Options) (*lab, error) {
	dir := opt.Dir
	var err error
	if dir == "" {
		dir, err = os.MkdirTemp("", "chaos-")
	} else {
		err = os.MkdirAll(dir, 0o777)
	}
	if err != nil {
		return nil, fmt.Errorf("work directory: %w", err)
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	l := &lab{opt: opt, dir: dir, train: opt.Train, config: filepath.Join(dir, "tiny.yaml"), awake: newAwake()}
	if l.train == "" {
		l.train = filepath.Join(dir, "train")
		if err := build(ctx, l.train); err != nil {
			return nil, err
		}
	}
	if l.train, err = filepath.Abs(l.train); err != nil {
		return nil, err
	}
	return l, l.writeInputs()
}

// build compiles the train command. The module is the one in the working directory.
func build(ctx context.Context, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "jambalaya/cmd/train")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the train command (or name one with --train): %w\n%s", err, out)
	}
	return nil
}

func (l *lab) writeInputs() error {
	text := filepath.Join(l.dir, "text")
	if err := os.MkdirAll(text, 0o777); err != nil {
		return err
	}
	for i := range 40 {
		line := fmt.Sprintf("Text %d has its own number, %d.\n", i, i*i)
		if err := os.WriteFile(filepath.Join(text, fmt.Sprintf("%02d.txt", i)), []byte(strings.Repeat(line, 20)), 0o666); err != nil {
			return err
		}
	}
	return os.WriteFile(l.config, fmt.Appendf(nil, tiny, l.dir), 0o666)
}

// place makes a directory of the row in progress.
func (l *lab) place(name string) (string, error) {
	row := fmt.Sprintf("row%02d", l.row)
	if l.try > 0 {
		row += fmt.Sprintf("-try%d", l.try+1)
	}
	dir := filepath.Join(l.dir, row, name)
	return dir, os.MkdirAll(dir, 0o777)
}

// chance is the randomness of the row in progress.
func (l *lab) chance() *prng.Rand { return prng.New(l.opt.Seed, fmt.Sprintf("chaos/%d", l.row)) }

// reps is a number of repetitions.
func (l *lab) reps(short, long int) int {
	if l.opt.Short {
		return short
	}
	return long
}

// arguments of the train command for a run of the tiny model.
func (l *lab) arguments(out string, more ...string) []string {
	return append([]string{"--config", l.config, "--out", out, "--device", "cpu", "--threads", "1"}, more...)
}

// set makes --set flags.
func set(assignments ...string) []string {
	var flags []string
	for _, a := range assignments {
		flags = append(flags, "--set", a)
	}
	return flags
}
