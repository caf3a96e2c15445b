package trainer

import (
	"errors"
	"fmt"
	"math/bits"

	"jambalaya/internal/backend/cuda"
	"jambalaya/internal/cli"
	"jambalaya/internal/engine"
	"jambalaya/internal/human"
	"jambalaya/model"
)

// explainMemory adds to the error of a GPU without room for a run how much the run
// takes, and which settings would fit. Other errors pass.
func explainMemory(d *Device, cfg Config, t *team, err error) error {
	if !errors.Is(err, cuda.ErrOutOfMemory) || d == nil || d.room == nil {
		return err
	}
	room := d.room()
	need, planErr := plannedBytes(cfg, t)
	if planErr != nil {
		return err
	}
	return cli.Config(fmt.Errorf("%w: the run needs %s, this process can have %s; %s", err, human.Bytes(need), human.Bytes(room), fitting(cfg, t, room)))
}

// fitting names the settings closest to a configuration whose run fits into some
// bytes: recomputation first, as it changes no result, then smaller micro-batches,
// more of them.
func fitting(cfg Config, t *team, room int64) string {
	levels := []string{"none", "cheap", "layer"}
	for len(levels) > 1 && levels[0] != cfg.Trainer.Recompute {
		levels = levels[1:]
	}
	for smaller := cfg; ; {
		for _, level := range levels {
			smaller.Trainer.Recompute = level
			need, err := plannedBytes(smaller, t)
			if err == nil && need <= room {
				text := fmt.Sprintf("trainer.recompute=%s", level)
				switch {
				case smaller.Trainer.Parts != cfg.Trainer.Parts:
					text += fmt.Sprintf(" trainer.parts=%d", smaller.Trainer.Parts)
				case smaller.Trainer.BatchSize != cfg.Trainer.BatchSize:
					text += fmt.Sprintf(" trainer.batch_size=%d trainer.accumulation=%d", smaller.Trainer.BatchSize, smaller.Trainer.Accumulation)
				}
				return fmt.Sprintf("%s would fit, in %s", text, human.Bytes(need))
			}
		}
		if _, rows := smaller.Trainer.share(t.size()); rows%2 != 0 {
			return "no recomputation or batch size fits: shorten data.sequence_length, or make the model smaller"
		}
		if smaller.Trainer.Parts > 0 {
			smaller.Trainer.Parts *= 2
			continue
		}
		smaller.Trainer.BatchSize /= 2
		smaller.Trainer.Accumulation *= 2
	}
}

// plannedBytes is the GPU memory of a run: weights, gradient and moments, and what the
// plans of a step, of its update and of the validation take beside them. It is laid out
// on a backend without a device.
func plannedBytes(cfg Config, t *team) (int64, error) {
	d := &Device{Backend: cuda.NewDry(), close: func() {}}
	shard := newShard(cfg, t)
	w, err := d.newWeights(cfg, shard)
	if err != nil {
		return 0, err
	}
	recompute, err := engine.ParseRecompute(cfg.Trainer.Recompute)
	if err != nil {
		return 0, err
	}
	micro, rows := cfg.Trainer.share(t.size())
	bytes := w.Bytes()
	if cfg.Trainer.Parts > 0 { // the trees that the gradients of the parts are added up in
		bytes += int64(bits.Len(uint(micro))-1) * w.Grad.Bytes()
	}
	for _, opt := range []model.GraphOptions{{Accumulate: cfg.Trainer.accumulates()}, {ForwardOnly: true}} {
		opt.Experts = shard.layout.Shared()
		g, err := model.NewTrainingGraph(cfg.Model, rows, cfg.Data.SequenceLength, opt)
		if err != nil {
			return 0, err
		}
		p, err := engine.NewPlan(g.Program, d, engine.Options{Compute: w.Compute(), Recompute: recompute, Bind: w.BindCompute(g.Params, g.Grads, g.Sums)})
		if err != nil {
			return 0, err
		}
		bytes += p.Usage().Arena + p.Usage().Inputs
		p.Close()
	}
	return bytes, nil
}
