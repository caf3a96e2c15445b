package checkpoint

import (
	"encoding/json"
)

const maxState = 16 << 20

// State is what besides tensors a run resumes from. The fields are those that
// readers other than the trainer need; the rest is in Trainer.
type State struct {
	Step          int64             `json:"step"`           // optimiser steps taken
	Seed          uint64            `json:"seed"`           // of the run
	Cursor        int64             `json:"cursor"`         // index of the next sample
	ConfigHash    string            `json:"config_hash"`    // of what must not change over a resume
	DataHash      string            `json:"data_hash"`      // of the packing index
	TokenizerHash string            `json:"tokenizer_hash"` //
	LearningRate  float64           `json:"learning_rate"`  // of the last step
	Device        string            `json:"device"`         // cpu or cuda, and which
	CPUPath       string            `json:"cpu_path"`       // avx512, avx2 or plain: another one may give other bits
	Algorithms    map[string]string `json:"algorithms"`     // chosen for products, by shape
	Trainer       json.RawMessage   `json:"trainer"`        // the trainer's own counters
}

func (s *State) encode() ([]byte, error) { return encodeJSON(s) }

func decodeState(text []byte) (*State, error) {
	s := &State{}
	if err := json.Unmarshal(text, s); err != nil {
		return nil, corrupt("%s: %v", stateName, err)
	}
	if s.Step < 0 || s.Cursor < 0 {
		return nil, corrupt("%s: step %d, cursor %d", stateName, s.Step, s.Cursor)
	}
	return s, nil
}
