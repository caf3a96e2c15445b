package chaos

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"jambalaya/checkpoint"
	"jambalaya/internal/vfs"
	"jambalaya/trainer/report"
)

const checkpointDir = "checkpoints"

// outcome is what two runs of the same bits have in common: the metrics without the
// clock, and every file of the last checkpoint.
type outcome struct {
	step    int64
	metrics [sha256.Size]byte
	files   map[string]string // SHA-256 by name
}

// outcomeOf reads a run, every byte of its newest checkpoint included.
func outcomeOf(ctx context.Context, run string) (outcome, error) {
	o := outcome{files: map[string]string{}}
	text, err := os.ReadFile(filepath.Join(run, "metrics.jsonl"))
	if err != nil {
		return o, err
	}
	hash := sha256.New()
	for line := range bytes.Lines(text) {
		fields, err := report.Deterministic(line)
		if err != nil {
			return o, err
		}
		hash.Write(append(fields, '\n'))
	}
	hash.Sum(o.metrics[:0])
	found, skipped, err := newest(ctx, run)
	if err != nil {
		return o, err
	}
	if len(skipped) > 0 {
		return o, fmt.Errorf("damaged: %v", skipped[0])
	}
	o.step = found.Manifest.Step
	for _, f := range found.Manifest.Files {
		o.files[f.Name] = f.SHA256
	}
	return o, nil
}

// differs says in what one outcome differs from another, "" if in nothing.
func (o outcome) differs(from outcome) string {
	switch {
	case o.step != from.step:
		return fmt.Sprintf("ends at step %d, not %d", o.step, from.step)
	case len(o.files) != len(from.files):
		return fmt.Sprintf("%d files, not %d", len(o.files), len(from.files))
	}
	for name, sum := range from.files {
		if o.files[name] != sum {
			return name + " has other bits"
		}
	}
	if o.metrics != from.metrics {
		return "the metrics have other bits"
	}
	return ""
}

// newest verifies the checkpoints of a run.
func newest(ctx context.Context, run string) (*checkpoint.Checkpoint, []checkpoint.Skipped, error) {
	root, err := vfs.Dir(run)
	if err != nil {
		return nil, nil, err
	}
	defer root.Close()
	return checkpoint.Find(ctx, root, checkpointDir)
}

// newestStep is that of the newest checkpoint that verifies, -1 if there is none. A
// published checkpoint that does not verify is an error.
func newestStep(ctx context.Context, run string) (int64, error) {
	found, skipped, err := newest(ctx, run)
	switch {
	case len(skipped) > 0:
		return -1, fmt.Errorf("damaged: %v", skipped[0])
	case errors.Is(err, checkpoint.ErrNone), errors.Is(err, os.ErrNotExist):
		return -1, nil
	case err != nil:
		return -1, err
	}
	return found.Manifest.Step, nil
}
