package trainer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"jambalaya/checkpoint"
	"jambalaya/internal/engine"
	"jambalaya/internal/safetensors"
	"jambalaya/model"
	"jambalaya/trainer/optim"
)

// counters are what the trainer keeps in a checkpoint beside the tensors.
type counters struct {
	Steps  int64       `json:"steps"`  // of the whole run
	Tokens int64       `json:"tokens"` // read so far
	Optim  optim.State `json:"optim"`
}

// Prefixes of the names under which the optimiser's moments are saved.
const (
	prefixM = "m."
	prefixV = "v."
)

// savedTensor is a tensor of a parameter that checkpoints hold.
type savedTensor struct {
	prefix string
	*engine.Tensor
}

// savedTensors returns the weight of parameter i and its moments, if they are here.
func savedTensors(w *model.Weights, i int) []savedTensor {
	all := []savedTensor{{"", w.Param(w.Value, i)}}
	if m, v, kept := w.Moments(i); kept {
		all = append(all, savedTensor{prefixM, m}, savedTensor{prefixV, v})
	}
	return all
}

// snapshotTensors reads this rank's share of weights and moments into host memory, one
// entry a parameter, and one an expert of those that are sharded by expert.
func snapshotTensors(be engine.Backend, w *model.Weights, s *shard) ([]checkpoint.Tensor, error) {
	var all []checkpoint.Tensor
	for i, p := range w.Params {
		if !s.owns(i) {
			continue
		}
		for _, saved := range savedTensors(w, i) {
			host := make([]float32, p.Size())
			if err := be.Read(host, saved.Tensor); err != nil {
				return nil, fmt.Errorf("snapshot %s: %w", p.Name, err)
			}
			t := checkpoint.Tensor{Name: saved.prefix + p.Name, DType: safetensors.F32, Shape: toInt64(p.Shape), Group: checkpoint.GroupModel}
			if saved.prefix != "" {
				t.Group = checkpoint.GroupOptim
			}
			if p.Expert {
				t.Shape[0] = int64(w.Config.NumExperts)
				all = append(all, expertTensors(t, p, w.Experts.Lo, host)...)
				continue
			}
			t.Data = safetensors.Bytes(host)
			all = append(all, t)
		}
	}
	return all, nil
}

// expertTensors cuts the part of a tensor that begins with some expert along its first
// dimension, the expert.
func expertTensors(t checkpoint.Tensor, p model.Param, first int, host []float32) []checkpoint.Tensor {
	experts := p.Shape[0]
	size := len(host) / experts
	var all []checkpoint.Tensor
	for e := range experts {
		part := t
		part.Group = checkpoint.ExpertGroup(p.Layer, first+e)
		part.Start = make([]int64, len(p.Shape))
		part.Start[0] = int64(first + e)
		part.Extent = toInt64(p.Shape)
		part.Extent[0] = 1
		part.Data = safetensors.Bytes(host[e*size : (e+1)*size])
		all = append(all, part)
	}
	return all
}

// restoreTensors loads what this rank holds of what snapshotTensors saved, on however
// many ranks. With weightsOnly the moments are left alone; weights that do not train
// have none.
func restoreTensors(be engine.Backend, w *model.Weights, c *checkpoint.Checkpoint, weightsOnly bool) error {
	for i, p := range w.Params {
		var start, extent []int64
		if p.Expert {
			start, extent = make([]int64, len(p.Shape)), toInt64(p.Shape)
			start[0] = int64(w.Experts.Lo)
		}
		host := make([]float32, p.Size())
		for _, saved := range savedTensors(w, i) {
			if weightsOnly && saved.prefix != "" {
				continue
			}
			if err := c.LoadPart(saved.prefix+p.Name, start, extent, host); err != nil {
				return fmt.Errorf("checkpoint %s is of another model than %s describes: %w", c.Name(), configFile, err)
			}
			if err := be.Write(saved.Tensor, host); err != nil {
				return err
			}
		}
	}
	if err := w.Refresh(); err != nil {
		return err
	}
	return checkNames(w, c)
}

// checkNames refuses a checkpoint with tensors that the model does not have.
func checkNames(w *model.Weights, c *checkpoint.Checkpoint) error {
	known := map[string]bool{}
	for _, p := range w.Params {
		known[p.Name] = true
	}
	for _, t := range c.Tensors() {
		name := strings.TrimPrefix(strings.TrimPrefix(t.Name, prefixM), prefixV)
		if !known[name] {
			return fmt.Errorf("checkpoint %s holds %s, which this model lacks: it is of another configuration", c.Name(), t.Name)
		}
	}
	return nil
}

func encodeCounters(c counters) (json.RawMessage, error) { return json.Marshal(c) }

func decodeCounters(text json.RawMessage) (counters, error) {
	var c counters
	if err := json.Unmarshal(text, &c); err != nil {
		return c, fmt.Errorf("checkpoint: counters: %w", errors.Join(checkpoint.ErrCorrupt, err))
	}
	return c, nil
}

func toInt64(shape []int) []int64 {
	out := make([]int64, len(shape))
	for i, n := range shape {
		out[i] = int64(n)
	}
	return out
}
