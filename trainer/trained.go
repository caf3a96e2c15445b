package trainer

import (
	"context"
	"fmt"
	"os"

	"jambalaya/data/tokenizer"
	"jambalaya/internal/cli"
	"jambalaya/model"
)

// Trained is the model of a run, from its newest good checkpoint.
type Trained struct {
	Config  Config
	Step    int64 // optimiser steps behind the weights
	device  *Device
	weights *model.Weights
	tok     tokenizer.Tokenizer
}

// OpenTrained loads the model of a run's directory.
func OpenTrained(ctx context.Context, dir, device string, threads int) (*Trained, error) {
	cfg, found, err := openRun(ctx, dir, func(text string) { fmt.Fprintf(os.Stderr, "warning: %s\n", text) })
	if err != nil {
		return nil, err
	}
	t := &Trained{Config: cfg, Step: found.State.Step}
	if t.tok, err = runTokenizer(dir, cfg.Data.Tokenizer, found.State.TokenizerHash); err != nil {
		return nil, err
	}
	if n := t.tok.VocabSize(); n > cfg.Model.VocabSize {
		return nil, cli.Config(fmt.Errorf("%s: tokenizer %s has %d tokens, the model %d: its own tokenizer is not here", dir, t.tok.ID(), n, cfg.Model.VocabSize))
	}
	if t.device, err = OpenDevice(device, threads); err != nil {
		return nil, err
	}
	if t.weights, err = model.NewWeights(t.device, cfg.Model, false); err == nil {
		err = restoreTensors(t.device, t.weights, found, true)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// NewUntrained makes a model with fresh weights: to measure what a trained one would
// cost. It has no tokenizer, and so does not Generate.
func NewUntrained(cfg Config) (*Trained, error) {
	device, err := OpenDevice(cfg.Trainer.Device, cfg.Trainer.Threads)
	if err != nil {
		return nil, err
	}
	t := &Trained{Config: cfg, device: device}
	if t.weights, err = model.NewWeights(device, cfg.Model, false); err == nil {
		err = t.weights.Init(cfg.Trainer.Seed)
	}
	if err != nil {
		t.Close()
		return nil, err
	}
	return t, nil
}

// Generate continues a prompt and passes each piece of text on as it comes.
func (t *Trained) Generate(ctx context.Context, req Generation, emit func([]byte) error) error {
	capacity := 1 + len(t.tok.Encode(nil, []byte(req.Prompt))) + req.MaxNewTokens
	g, err := model.NewGenerator(t.device, t.weights, capacity)
	if err != nil {
		return err
	}
	defer g.Close()
	return generate(g, t.tok, req, nil, func(text []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return emit(text)
	})
}

// Close gives the device back.
func (t *Trained) Close() { t.device.Close() }
