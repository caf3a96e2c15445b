package trainer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"jambalaya/checkpoint"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/cli"
	"jambalaya/internal/vfs"
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
	cfg, err := LoadRun(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, cli.Config(fmt.Errorf("%s is not the directory of a run: it has no %s; train first, or name one with --run", dir, configFile))
	}
	if err != nil {
		return nil, err
	}
	fsys, err := vfs.Dir(dir)
	if err != nil {
		return nil, err
	}
	found, skipped, err := checkpoint.Find(ctx, fsys, checkpointDir)
	for _, s := range skipped {
		fmt.Fprintf(os.Stderr, "warning: %v\n", s)
	}
	if len(skipped) > 0 && err == nil {
		fmt.Fprintf(os.Stderr, "warning: using checkpoint %s\n", found.Name())
	}
	if errors.Is(err, checkpoint.ErrNone) {
		return nil, fmt.Errorf("%s: %w; train until the first one is saved", dir, err)
	}
	if err != nil {
		return nil, err
	}
	t := &Trained{Config: cfg, Step: found.State.Step}
	if t.tok, err = runTokenizer(dir, cfg.Data.Tokenizer, found.State.TokenizerHash); err != nil {
		return nil, err
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

// Generate continues a prompt and passes each piece of text on as it comes.
func (t *Trained) Generate(ctx context.Context, req Generation, emit func([]byte) error) error {
	capacity := 1 + len(t.tok.Encode(nil, []byte(req.Prompt))) + req.MaxNewTokens
	g, err := model.NewGenerator(t.device, t.weights, capacity)
	if err != nil {
		return err
	}
	defer g.Close()
	return Generate(g, t.tok, req, func(text []byte) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return emit(text)
	})
}

// Close gives the device back.
func (t *Trained) Close() { t.device.Close() }
