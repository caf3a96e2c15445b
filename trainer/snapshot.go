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

// saved is one of the flat buffers with the prefix of its tensors.
type saved struct {
	prefix string
	flat   *engine.Tensor
}

func savedBuffers(w *model.Weights) []saved {
	return []saved{{"", w.Value}, {prefixM, w.M}, {prefixV, w.V}}
}

// snapshotTensors reads weights and moments into host memory, one entry a
// parameter, and one an expert of those that are sharded by expert.
func snapshotTensors(be engine.Backend, w *model.Weights) ([]checkpoint.Tensor, error) {
	var all []checkpoint.Tensor
	for _, s := range savedBuffers(w) {
		for i, p := range w.Params {
			host := make([]float32, p.Size())
			if err := be.Read(host, w.Param(s.flat, i)); err != nil {
				return nil, fmt.Errorf("snapshot %s: %w", p.Name, err)
			}
			t := checkpoint.Tensor{Name: s.prefix + p.Name, DType: safetensors.F32, Shape: toInt64(p.Shape), Group: checkpoint.GroupModel}
			if s.prefix != "" {
				t.Group = checkpoint.GroupOptim
			}
			if p.Expert {
				all = append(all, expertTensors(t, p, host)...)
				continue
			}
			t.Data = safetensors.Bytes(host)
			all = append(all, t)
		}
	}
	return all, nil
}

// expertTensors cuts a tensor along its first dimension, the expert.
func expertTensors(t checkpoint.Tensor, p model.Param, host []float32) []checkpoint.Tensor {
	experts := p.Shape[0]
	size := len(host) / experts
	var all []checkpoint.Tensor
	for e := 0; e < experts; e++ {
		part := t
		part.Group = checkpoint.ExpertGroup(p.Layer, e)
		part.Start = make([]int64, len(p.Shape))
		part.Start[0] = int64(e)
		part.Extent = toInt64(p.Shape)
		part.Extent[0] = 1
		part.Data = safetensors.Bytes(host[e*size : (e+1)*size])
		all = append(all, part)
	}
	return all
}

// restoreTensors loads what snapshotTensors saved. With weightsOnly the moments
// are left alone: generation needs none.
func restoreTensors(be engine.Backend, w *model.Weights, c *checkpoint.Checkpoint, weightsOnly bool) error {
	for _, s := range savedBuffers(w) {
		if weightsOnly && s.prefix != "" {
			continue
		}
		for i, p := range w.Params {
			host := make([]float32, p.Size())
			if err := c.Load(s.prefix+p.Name, host); err != nil {
				return fmt.Errorf("checkpoint %s is of another model than %s describes: %w", c.Name(), configFile, err)
			}
			if err := be.Write(w.Param(s.flat, i), host); err != nil {
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
