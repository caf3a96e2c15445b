package trainer

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"jambalaya/internal/backend/cuda"
)

// TestFitting: what is proposed is planned to fit, and recomputation comes before
// smaller batches.
func TestFitting(t *testing.T) {
	t.Parallel()
	cfg := Default()
	cfg.Trainer.BatchSize, cfg.Data.SequenceLength = 8, 256
	alone, err := newTeam(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	need, err := plannedBytes(cfg, alone)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Trainer.Recompute = "layer"
	layer, err := plannedBytes(cfg, alone)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Trainer.Recompute = "none"
	for _, c := range []struct {
		room int64
		want string
	}{
		{need, "trainer.recompute=none would fit"},
		{layer, "trainer.recompute=layer would fit"},
		{layer - 1, "trainer.batch_size=4 trainer.accumulation=2 would fit"},
		{1000, "no recomputation or batch size fits: shorten data.sequence_length"},
	} {
		if got := fitting(cfg, alone, c.room); !strings.Contains(got, c.want) {
			t.Errorf("%d bytes: %q, want %q", c.room, got, c.want)
		}
	}
}

// TestExplainMemory: the error keeps its cause, and other errors pass.
func TestExplainMemory(t *testing.T) {
	t.Parallel()
	d := &Device{room: func() int64 { return 1000 }}
	alone, err := newTeam(Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	full := fmt.Errorf("plan: %w", cuda.ErrOutOfMemory)
	err = explainMemory(d, Default(), alone, full)
	if !errors.Is(err, cuda.ErrOutOfMemory) || !strings.Contains(err.Error(), "the run needs") || !strings.Contains(err.Error(), "1000 bytes") {
		t.Errorf("%v", err)
	}
	if other := errors.New("other"); explainMemory(d, Default(), alone, other) != other {
		t.Error("another error is explained")
	}
}
