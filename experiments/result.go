package experiments

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"jambalaya/internal/config"
	"jambalaya/trainer"
	"jambalaya/trainer/report"
)

// Names in the directory of a grid.
const (
	gridFile   = "grid.yaml"
	cellsDir   = "cells"
	costsDir   = "costs"
	resultFile = "result.json" // in the directory of a cell: it is done
	cellLock   = "cell.lock"   // beside it: held by the process that runs the cell
	logFile    = "log.txt"     // in the same: what the run printed
)

// Result is what a cell measured.
type Result struct {
	Cell       string `json:"cell"`
	Variant    string `json:"variant"`
	Seed       uint64 `json:"seed"`
	ConfigHash string `json:"config_hash"`
	DataHash   string `json:"data_hash"`   // of the order of samples, from the last checkpoint
	ComputedOn string `json:"computed_on"` // device, instruction set or libraries, and precision, from the same

	Steps       int64         `json:"steps"`
	Tokens      int64         `json:"tokens"`
	ValLoss     report.Number `json:"val_loss"` // nats a token, of the text alone
	BitsPerByte report.Number `json:"bits_per_byte"`
	TrainLoss   report.Number `json:"train_loss"`   // mean over the last tenth of the steps, problems included
	TokensPerS  report.Number `json:"tokens_per_s"` // median, beside the other cells that ran

	Skipped       int           `json:"skipped"`        // steps that were not finite, or spikes
	SpikeScore    report.Number `json:"spike_score"`    // share of steps whose loss is 6 deviations above the 128 before
	GradNormMax   report.Number `json:"grad_norm_max"`  // after the first tenth of the steps
	ActivationRMS report.Number `json:"activation_rms"` // of the residual stream on held-out text
	ActivationMax report.Number `json:"activation_max"`

	Recall []RecallScore `json:"recall,omitempty"`
}

// RecallScore is the accuracy in one task at one length.
type RecallScore struct {
	Task     string        `json:"task"`
	Length   int           `json:"length"`
	Accuracy report.Number `json:"accuracy"` // share of the answers that the model ranks first
	Answers  int           `json:"answers"`
	Chance   report.Number `json:"chance"`
}

// Costs are the measured costs of a variant, taken alone on the machine.
type Costs struct {
	Variant          string        `json:"variant"`
	ConfigHash       string        `json:"config_hash"`
	Device           string        `json:"device"`
	Threads          int           `json:"threads"`
	TrainTokensPerS  report.Number `json:"train_tokens_per_s"`
	DecodeTokensPerS report.Number `json:"decode_tokens_per_s"` // one sequence, greedy
	DecodeContext    int           `json:"decode_context"`      // tokens read before
	PlannedMemory    int64         `json:"planned_memory"`      // bytes of weights, states and activations of a training step
	PeakMemory       int64         `json:"peak_memory"`         // bytes that the process had resident in it, or that were taken of the GPU; 0 if unknown
	StateBytes       int64         `json:"state_bytes"`         // measured of the generator
	StateContext     int           `json:"state_context"`       // its capacity
}

// neutral is cfg with all set back that no result depends on.
func neutral(cfg trainer.Config) trainer.Config {
	standard := trainer.Default()
	cfg.Trainer.Device, cfg.Trainer.Threads = standard.Trainer.Device, standard.Trainer.Threads
	cfg.Data.CacheDir, cfg.Data.Prefetch = standard.Data.CacheDir, standard.Data.Prefetch
	cfg.Checkpoint = standard.Checkpoint
	return cfg
}

// identity is the hash of all that decides what a cell measures: what its
// configuration changes of the defaults, so that keys of later versions do not make it
// another, and the recall problems.
func identity(cfg trainer.Config, r Recall) (string, error) {
	changes, err := config.Diff(trainer.Default(), neutral(cfg))
	if err != nil {
		return "", err
	}
	var set []string
	for _, d := range changes {
		set = append(set, d.Key+"="+d.B)
	}
	return config.Hash(struct {
		Set    []string `yaml:"set"`
		Recall Recall   `yaml:"recall"`
	}{set, r})
}

// readJSON reads a file into value, and reports whether there is one.
func readJSON(name string, value any) (bool, error) {
	text, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(text, value); err != nil {
		return false, fmt.Errorf("%s: %w; remove it, and it is measured again", name, err)
	}
	return true, nil
}

func writeJSON(name string, value any) error {
	text, err := json.MarshalIndent(value, "", " ")
	if err != nil {
		return err
	}
	return writeFile(name, append(text, '\n'))
}

// temporaryPrefix begins the names of files in the making.
const temporaryPrefix = ".new-"

// writeFile replaces a file as a whole.
func writeFile(name string, text []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(name), temporaryPrefix+"*")
	if err != nil {
		return err
	}
	defer os.Remove(temporary.Name()) // gone already if all went well
	_, err = temporary.Write(text)
	if err = errors.Join(err, temporary.Chmod(0o644), temporary.Sync(), temporary.Close()); err != nil {
		return err
	}
	return os.Rename(temporary.Name(), name)
}

// result returns what a cell measured, nil if it is not done. A result of another
// configuration is refused.
func (g *Grid) result(out string, c *Cell) (*Result, error) {
	name := filepath.Join(out, cellsDir, c.Name, resultFile)
	var r Result
	found, err := readJSON(name, &r)
	if err != nil || !found {
		return nil, err
	}
	if r.ConfigHash != c.Hash {
		return nil, fmt.Errorf("%w: cell %s: %s is of another configuration; choose another folder with --out", ErrOtherGrid, c.Name, name)
	}
	return &r, nil
}
