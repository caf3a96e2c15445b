package trainer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"jambalaya/checkpoint"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/cli"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
	"jambalaya/model"
	"jambalaya/trainer/hub"
)

// Keys of the metadata of exported weights, beside what the hub wants there.
const (
	metaTokenizer     = "tokenizer"
	metaTokenizerHash = "tokenizer_sha256"
	metaStep          = "step"
)

// Export is what ExportRun is asked for.
type Export struct {
	Run, Out  string
	DType     safetensors.DType // F32 or BF16
	FileBytes int64             // most bytes of weights in a file; 0: the hub's usual 5 GB
}

// Exported tells what ExportRun wrote.
type Exported struct {
	Step  int64
	Files []string
	Bytes int64
}

// ExportRun writes the newest good checkpoint of a run as a folder for a model hub:
// config.json and model.safetensors, and the file of a tokenizer that was trained. One
// tensor at a time is in memory.
func ExportRun(ctx context.Context, e Export, warn func(string)) (*Exported, error) {
	cfg, found, err := openRun(ctx, e.Run, warn)
	if err != nil {
		return nil, err
	}
	if _, err := model.WriteHFConfig(cfg.Model, ""); err != nil {
		return nil, cli.Config(fmt.Errorf("%s: %w", e.Run, err))
	}
	tok, err := runTokenizer(e.Run, cfg.Data.Tokenizer, found.State.TokenizerHash)
	if err != nil {
		return nil, err
	}
	parent, name, err := openTarget(e.Out)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	opt := hub.Options{DType: e.DType, FileBytes: e.FileBytes, Metadata: map[string]string{
		"format": "pt", metaTokenizer: tok.ID(), metaTokenizerHash: tok.Hash(), metaStep: strconv.FormatInt(found.State.Step, 10),
	}}
	if bpe, ok := tok.(*tokenizer.BPE); ok {
		opt.Extra = map[string][]byte{tokenizerFile: bpe.File()}
	}
	params := cfg.Model.Params()
	files, size, err := hub.Write(parent, name, withTextEnds(cfg.Model, tok), opt, func(part model.Range, dst []float32) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		return loadRange(found, params[part.Param], part, dst)
	})
	if err != nil {
		return nil, fmt.Errorf("export to %s: %w", e.Out, err)
	}
	return &Exported{Step: found.State.Step, Files: files, Bytes: size}, nil
}

// openRun finds the newest good checkpoint of a run.
func openRun(ctx context.Context, dir string, warn func(string)) (Config, *checkpoint.Checkpoint, error) {
	cfg, err := LoadRun(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return cfg, nil, cli.Config(fmt.Errorf("%s is not the directory of a run: it has no %s; train first, or name one with --run", dir, configFile))
	}
	if err != nil {
		return cfg, nil, err
	}
	fsys, err := vfs.Dir(dir)
	if err != nil {
		return cfg, nil, err
	}
	found, skipped, err := checkpoint.Find(ctx, fsys, checkpointDir)
	for _, s := range skipped {
		warn(fmt.Sprint(s))
	}
	if len(skipped) > 0 && err == nil {
		warn("using checkpoint " + found.Name())
	}
	if errors.Is(err, checkpoint.ErrNone) {
		err = fmt.Errorf("%s: %w; train until the first one is saved", dir, err)
	}
	return cfg, found, err
}

// withTextEnds fills in the ids with which texts begin and end, by which the readers
// of config.json know where to stop.
func withTextEnds(c model.Config, tok tokenizer.Tokenizer) model.Config {
	end := int(tok.EndOfText())
	if end < c.VocabSize {
		if c.BosTokenID == nil {
			c.BosTokenID = &end
		}
		if c.EosTokenID == nil {
			c.EosTokenID = &end
		}
	}
	return c
}

// loadRange reads a run of elements of a parameter from a checkpoint.
func loadRange(c *checkpoint.Checkpoint, p model.Param, r model.Range, dst []float32) error {
	start, extent := boxOf(p.Shape, r.Offset, r.Length)
	info, err := c.Info(p.Name)
	if err != nil {
		return err
	}
	if info.DType == safetensors.F32 {
		return c.LoadSlice(p.Name, start, extent, safetensors.Bytes(dst))
	}
	raw := make([]byte, int64(r.Length)*info.DType.Size())
	if err := c.LoadSlice(p.Name, start, extent, raw); err != nil {
		return err
	}
	values, err := safetensors.Tensor{Name: p.Name, DType: info.DType, Data: raw}.Float32s()
	copy(dst, values)
	return err
}

// boxOf is the box of a tensor that a run of its elements fills. The runs of a hub's
// tensors are rows, or all there is below one index.
func boxOf(shape []int, offset, length int) (start, extent []int64) {
	start, extent = make([]int64, len(shape)), make([]int64, len(shape))
	d, below := len(shape)-1, 1 // elements below an index of dimension d
	for d > 0 && offset%(below*shape[d]) == 0 && length%(below*shape[d]) == 0 {
		extent[d] = int64(shape[d])
		below *= shape[d]
		d--
	}
	at := offset / below
	extent[d] = int64(length / below)
	for ; d >= 0; d-- {
		start[d] = int64(at % shape[d])
		extent[d] = max(extent[d], 1)
		at /= shape[d]
	}
	return start, extent
}

// openTarget opens the directory in which the folder out is to be made. An empty
// folder in its place is removed; anything else is left alone.
func openTarget(out string) (*vfs.DirFS, string, error) {
	out = filepath.Clean(out)
	dir, name := filepath.Split(out)
	if dir == "" {
		dir = "."
	}
	if name == "" || name == "." || name == ".." {
		return nil, "", cli.Config(fmt.Errorf("--out %s: name a folder to make", out))
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, "", fmt.Errorf("cannot make the folder for --out %s: %w", out, err)
	}
	parent, err := vfs.Dir(dir)
	if err != nil {
		return nil, "", err
	}
	entries, err := parent.ReadDir(name)
	switch {
	case err == nil && len(entries) == 0:
		err = parent.Remove(name)
	case err == nil:
		err = cli.Config(fmt.Errorf("--out %s: there is something already; choose another, or remove it", out))
	case errors.Is(err, fs.ErrNotExist):
		err = nil
	default:
		err = cli.Config(fmt.Errorf("--out %s: %w", out, err))
	}
	if err != nil {
		parent.Close()
		return nil, "", err
	}
	return parent, name, nil
}
