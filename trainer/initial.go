package trainer

import (
	"context"
	"fmt"
	"slices"

	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/model"
)

// initialise draws the initial weights, or takes those of another run. The optimiser
// starts anew in any case.
func (r *run) initialise(ctx context.Context) error {
	if err := r.weights.Init(r.cfg.Trainer.Seed); err != nil || r.cfg.Trainer.InitFrom == "" {
		return err
	}
	from := r.cfg.Trainer.InitFrom
	cfg, found, err := openRun(ctx, from, func(text string) { r.printf("warning: %s", text) })
	if err != nil {
		return fmt.Errorf("trainer.init_from: %w", err)
	}
	if err := sameModel(from, cfg.Model, r.cfg.Model); err != nil {
		return cli.Config(err)
	}
	if have := r.corpus.Tokenizer(); found.State.TokenizerHash != have.Hash() {
		r.printf("warning: %s was trained with another tokenizer (%s) than %s", from, cfg.Data.Tokenizer, have.ID())
	}
	if err := restoreTensors(r.device, r.weights, found, true); err != nil {
		return err
	}
	r.printf("weights: those of %s after step %d", from, found.State.Step)
	return nil
}

// sameModel names the keys in which two models differ, but for those that only matter
// in training.
func sameModel(from string, theirs, ours model.Config) error {
	theirs.InitializerRange, theirs.DtInit = ours.InitializerRange, ours.DtInit
	theirs.RouterAuxLossCoef, theirs.RouterAuxScope = ours.RouterAuxLossCoef, ours.RouterAuxScope
	theirs.ExpertCapacityFactor = ours.ExpertCapacityFactor
	if slices.Equal(theirs.LayerKinds(), ours.LayerKinds()) { // however it is said
		theirs.LayerPattern = ours.LayerPattern
		theirs.AttnLayerPeriod, theirs.AttnLayerOffset = ours.AttnLayerPeriod, ours.AttnLayerOffset
		theirs.ExpertLayerPeriod, theirs.ExpertLayerOffset = ours.ExpertLayerPeriod, ours.ExpertLayerOffset
	}
	theirs.NumKeyValueHeads, theirs.MambaDtRank = theirs.KeyValueHeads(), theirs.DtRank()
	ours.NumKeyValueHeads, ours.MambaDtRank = ours.KeyValueHeads(), ours.DtRank()
	theirs.PadTokenID, theirs.BosTokenID, theirs.EosTokenID = ours.PadTokenID, ours.BosTokenID, ours.EosTokenID
	differences, err := config.Diff(Config{Model: theirs}, Config{Model: ours})
	if err != nil {
		return err
	}
	var f config.Faults
	for _, d := range differences {
		f.Add(d.Key, "is %s in trainer.init_from, %s, and not %s", d.A, from, d.B)
	}
	return f.Err()
}
