package trainer

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"jambalaya/configs"
	"jambalaya/data/tokenizer"
	"jambalaya/internal/cli"
	"jambalaya/internal/config"
	"jambalaya/internal/filelock"
)

// Names in a run's directory.
const (
	configFile    = "config.yaml"
	metricsFile   = "metrics.jsonl"
	plotFile      = "loss.png"
	samplesFile   = "samples.txt"
	samplesDir    = "samples"
	checkpointDir = "checkpoints"
	tokenizerFile = "tokenizer.json"
	lockFile      = ".lock"
)

// ErrBusy is returned when another process works in the run's directory.
var ErrBusy = errors.New("another process trains in this directory")

// runDir is the directory of a run, locked by a run alone.
type runDir struct {
	path string
	lock *os.File // nil in a world
	old  string   // where an earlier run was moved, if one was
}

// openRunDir makes and locks the directory. anew moves what an earlier run left
// there aside.
func openRunDir(path string, anew bool) (*runDir, error) {
	d, err := lockRunDir(path)
	if err != nil || !anew {
		return d, err
	}
	if _, err := os.Stat(d.file(configFile)); errors.Is(err, fs.ErrNotExist) {
		return d, nil
	}
	defer d.close() // only now: the run may be in progress
	old, err := moveAside(path)
	if err != nil {
		return nil, fmt.Errorf("run directory: %w; choose another with --out", err)
	}
	fresh, err := lockRunDir(path)
	if err == nil {
		fresh.old = old
	}
	return fresh, err
}

func lockRunDir(path string) (*runDir, error) {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return nil, fmt.Errorf("run directory: %w; choose another with --out", err)
	}
	lock, err := filelock.Try(filepath.Join(path, lockFile))
	if errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("%s: %w; wait for it, or choose another with --out", path, ErrBusy)
	}
	if err != nil {
		return nil, fmt.Errorf("run directory: %w; choose another with --out", err)
	}
	return &runDir{path: path, lock: lock}, nil
}

// moveAside renames a run's directory to the first free NAME.old-N, which it returns.
func moveAside(path string) (old string, err error) {
	for n := 1; ; n++ {
		old = fmt.Sprintf("%s.old-%d", filepath.Clean(path), n)
		if _, err := os.Stat(old); errors.Is(err, fs.ErrNotExist) {
			return old, os.Rename(path, old)
		}
	}
}

func (d *runDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *runDir) close() {
	if d.lock != nil {
		d.lock.Close()
	}
}

// recorded returns the configuration that the run was started with, and whether
// there is one.
func (d *runDir) recorded() (Config, bool, error) {
	cfg, err := LoadRun(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Config{}, false, nil
	}
	return cfg, err == nil, err
}

// imported says whether the directory is one that ImportHub made: no training saves a
// checkpoint of step 0.
func (d *runDir) imported() bool {
	_, err := os.Stat(d.file(filepath.Join(checkpointDir, "step-00000000")))
	return err == nil
}

// LoadRun reads the configuration of a run's directory.
func LoadRun(dir string) (Config, error) {
	cfg, _, err := loadRun(dir)
	return cfg, err
}

func loadRun(dir string) (cfg Config, origins config.Origins, err error) {
	name := filepath.Join(dir, configFile)
	file, err := configs.Load(name)
	if err != nil {
		return cfg, nil, err
	}
	if len(bytes.TrimSpace(file.Text)) == 0 {
		err = fmt.Errorf("%s: is empty", name)
	} else {
		cfg, origins, err = LoadConfig(file, nil)
	}
	if err != nil {
		return cfg, nil, cli.Config(fmt.Errorf("%w; restore the file as the run wrote it, or train anew with --fresh", err))
	}
	return cfg, origins, nil
}

// recordedKeys are the keys that the recorded configuration has, those of the program that
// started the run; none if nothing is recorded.
func (d *runDir) recordedKeys() (config.Origins, error) {
	_, origins, err := loadRun(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return origins, err
}

// record writes the configuration as resolved.
func (d *runDir) record(cfg Config) error {
	text, err := config.Encode(cfg)
	if err != nil {
		return err
	}
	return writeFile(d.file(configFile), text)
}

// writeFile replaces a file as a whole.
func writeFile(name string, text []byte) error {
	tmp := name + ".tmp"
	if err := os.WriteFile(tmp, text, 0o644); err != nil {
		return err
	}
	f, err := os.Open(tmp)
	if err != nil {
		return err
	}
	if err := errors.Join(f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(tmp, name)
}

// keepTokenizer leaves a copy of a trained tokenizer with the run, so that its
// model can be used without the corpus.
func (d *runDir) keepTokenizer(tok tokenizer.Tokenizer) error {
	if bpe, ok := tok.(*tokenizer.BPE); ok {
		return writeFile(d.file(tokenizerFile), bpe.File())
	}
	return nil
}

// runTokenizer opens the tokenizer that a run's model was trained with.
func runTokenizer(dir, name, hash string) (tokenizer.Tokenizer, error) {
	tok, err := tokenizer.Named(name)
	if errors.Is(err, tokenizer.ErrUnknown) {
		tok, err = tokenizer.Load(filepath.Join(dir, tokenizerFile))
	}
	if err != nil {
		return nil, err
	}
	if tok.Hash() != hash {
		return nil, fmt.Errorf("%s: the model was trained with another tokenizer than %s", dir, tok.ID())
	}
	return tok, nil
}
