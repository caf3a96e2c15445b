package trainer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"jambalaya/checkpoint"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/internal/safetensors"
	"jambalaya/internal/vfs"
	"jambalaya/model"
	"jambalaya/trainer/hub"
)

// Imported tells what ImportHub made.
type Imported struct {
	Config    Config
	Tokenizer tokenizer.Tokenizer
}

// ImportHub makes the directory of a run from a folder of a model hub: the weights are
// its checkpoint of step 0. The tokenizer is named as in a configuration; "" is the
// one that an export of ours names, and else bytes. The run can be generated from,
// verified and exported, and other runs can start from it (trainer.init_from).
func ImportHub(dir, out, tokenizerName string) (*Imported, error) {
	m, err := hub.Open(dir)
	if errors.Is(err, model.ErrHub) || errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, cli.Config(err)
	}
	if err != nil {
		return nil, err
	}
	defer m.Close()
	if out == "" {
		return nil, cli.Config(errors.New("where to? Name the run's directory: --out runs/imported"))
	}
	done := &Imported{Config: Default()}
	done.Config.Model = m.Config
	if done.Tokenizer, err = importTokenizer(dir, m.Metadata, tokenizerName); err != nil {
		return nil, cli.Config(err)
	}
	done.Config.Data.Tokenizer = done.Tokenizer.ID()
	values, err := m.Values()
	if err != nil {
		return nil, err
	}
	parent, name, err := openTarget(out)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	// The directory takes its name when all of it is there.
	temporary := ".tmp-" + name
	if err := vfs.RemoveAll(parent, temporary); err != nil {
		return nil, err
	}
	if err = parent.Mkdir(temporary); err == nil {
		err = done.write(filepath.Join(filepath.Dir(filepath.Clean(out)), temporary), values)
	}
	if err == nil {
		err = errors.Join(parent.Rename(temporary, name), parent.SyncDir("."))
	}
	if err != nil {
		_ = vfs.RemoveAll(parent, temporary) // the first error says more
		return nil, fmt.Errorf("import to %s: %w", out, err)
	}
	return done, nil
}

// importTokenizer opens the tokenizer of a folder.
func importTokenizer(dir string, metadata map[string]string, name string) (tokenizer.Tokenizer, error) {
	if name != "" {
		tok, err := tokenizer.Named(name)
		if errors.Is(err, tokenizer.ErrUnknown) && filepath.Ext(name) == ".json" {
			tok, err = tokenizer.Load(name)
		}
		return tok, err
	}
	switch name = metadata[metaTokenizer]; {
	case name == "":
		return tokenizer.Bytes{}, nil
	default:
		tok, err := tokenizer.Named(name)
		if errors.Is(err, tokenizer.ErrUnknown) {
			tok, err = tokenizer.Load(filepath.Join(dir, tokenizerFile))
		}
		if err == nil && tok.Hash() != metadata[metaTokenizerHash] {
			err = fmt.Errorf("%s: the model was trained with another tokenizer than %s; name it with --tokenizer", dir, tok.ID())
		}
		return tok, err
	}
}

// write makes the files of the run.
func (i *Imported) write(dir string, values [][]float32) error {
	d := &runDir{path: dir}
	if err := errors.Join(d.keepTokenizer(i.Tokenizer), d.record(i.Config)); err != nil {
		return err
	}
	fsys, err := vfs.Dir(dir)
	if err != nil {
		return err
	}
	defer fsys.Close()
	store, err := checkpoint.Open(fsys, checkpointDir, checkpoint.Options{Config: i.Config.Checkpoint})
	if err != nil {
		return err
	}
	hash, err := config.Hash(i.Config.identity())
	if err != nil {
		return err
	}
	counts, err := encodeCounters(counters{})
	if err != nil {
		return err
	}
	var tensors []checkpoint.Tensor
	for n, p := range i.Config.Model.Params() {
		t := checkpoint.Tensor{Name: p.Name, DType: safetensors.F32, Shape: toInt64(p.Shape), Group: checkpoint.GroupModel}
		if p.Expert {
			tensors = append(tensors, expertTensors(t, p, 0, values[n])...)
			continue
		}
		t.Data = safetensors.Bytes(values[n])
		tensors = append(tensors, t)
	}
	err = store.Save(&checkpoint.Snapshot{Tensors: tensors, State: checkpoint.State{
		Seed: i.Config.Trainer.Seed, ConfigHash: hash, TokenizerHash: i.Tokenizer.Hash(), Trainer: counts,
	}})
	return errors.Join(err, store.Wait())
}
